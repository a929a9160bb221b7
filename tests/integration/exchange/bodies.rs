//! Decoding the transfer coding of bodies.

use proptest::prelude::*;
use sluicegate::upstream::exchange::decoder::{Decoder, Malformed};
use sluicegate::upstream::exchange::head::BodyLength;

const BODY: &[u8] =
    b"5\r\nhello\r\n1 ;name=value\r\n,\r\n0006\r\n world\r\n0\r\nx-trailer: 1\r\n\r\nbehind";

/// Decodes a body in these pieces: its content, the bytes after it, and whether it ended.
fn read(length: BodyLength, pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>, bool), Malformed> {
    let mut decoder = Decoder::new(length);
    let (mut content, mut behind) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        while let Some(bytes) = decoder.next(&mut rest)? {
            content.extend_from_slice(bytes);
        }
        behind.extend_from_slice(rest);
    }
    Ok((content, behind, decoder.is_ended()))
}

#[test]
fn a_body_decodes_the_same_at_every_cut() {
    let whole = (b"hello, world".to_vec(), b"behind".to_vec(), true);
    for cut in 0..=BODY.len() {
        let (first, second) = BODY.split_at(cut);
        assert_eq!(
            read(BodyLength::Chunked, &[first, second]),
            Ok(whole.clone()),
            "{cut}"
        );
    }
    let bytes: Vec<_> = BODY.chunks(1).collect();
    assert_eq!(read(BodyLength::Chunked, &bytes), Ok(whole));
    for length in 0..BODY.len() {
        let (content, behind, ended) = read(BodyLength::Known(length as u64), &bytes).unwrap();
        assert_eq!(
            (content, behind),
            (BODY[..length].to_vec(), BODY[length..].to_vec())
        );
        assert!(ended);
    }
    let (content, _, ended) = read(BodyLength::UntilClosed, &bytes).unwrap();
    assert_eq!((content.as_slice(), ended), (BODY, false));
}

#[test]
fn malformed_chunks_are_refused() {
    let long = format!("1;{}\r\n", "x".repeat(20_000));
    let trailers = format!("0\r\nx:{}\r\n\r\n", "x".repeat(20_000));
    let in_many_chunks = format!("1;{}\r\na\r\n", "x".repeat(500)).repeat(40);
    let blanks = format!("1{}\r\n", " ".repeat(100));
    let zeros = format!("{}1\r\n", "0".repeat(100));
    let many_trailers = format!("0\r\n{}", "x:y\r\n".repeat(10_000));
    for body in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "+1\r\n",
        " 1\r\n",
        "0x1\r\n",
        "1\na",
        "1;x\na",
        "1\r\nab\r\n",
        "1\r\na\n",
        "1\r\r\n",
        "1\0\r\n",
        "1 0\r\n",
        "1\r\na;\n",
        "1;a\r\r\n",
        "0;a\n\r\n",
        "0\n\n",
        "0\r\n\n",
        "0\r\nx: y\0\r\n\r\n",
        "0\r\nx: y\r\n z\r\n\r\n",
        "0\r\nx : y\r\n\r\n",
        "fffffffffffffffff\r\n",
        "10000000000000000\r\n",
        "5\r\nhello\r\n0\r\nworld\r\n",
        "0\r\n: y\r\n",
        "0\r\nx: y\n\r\n",
        &long,
        &in_many_chunks,
        &blanks,
        &zeros,
        &trailers,
        &many_trailers,
    ] {
        assert_eq!(
            read(BodyLength::Chunked, &[body.as_bytes()]),
            Err(Malformed),
            "{body:.40}"
        );
    }
    // An incomplete body is not malformed.
    for cut in 0..BODY.len() - "behind".len() {
        let (_, _, ended) = read(BodyLength::Chunked, &[&BODY[..cut]]).unwrap();
        assert!(!ended, "{cut}");
    }
}

#[test]
fn sizes_may_be_padded_in_every_chunk() {
    let body = "00000001   \r\na\r\n".repeat(5_000) + "00000000   \r\n\r\n";
    let (content, _, ended) = read(BodyLength::Chunked, &[body.as_bytes()]).unwrap();
    assert_eq!((content.len(), ended), (5_000, true));
}

#[test]
fn the_largest_chunk_does_not_overflow() {
    let body = format!("{:x}\r\nab", u64::MAX);
    let (content, _, ended) = read(BodyLength::Chunked, &[body.as_bytes()]).unwrap();
    assert_eq!((content.as_slice(), ended), (&b"ab"[..], false));
    let (content, _, ended) = read(BodyLength::Known(u64::MAX), &[b"ab"]).unwrap();
    assert_eq!((content.as_slice(), ended), (&b"ab"[..], false));
}

proptest! {
    #[test]
    fn chunks_of_any_content_read_back(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        places.extend([0, body.len()]);
        places.sort_unstable();
        let pieces: Vec<_> = places.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(BodyLength::Chunked, &pieces), Ok((chunks.concat(), vec![], true)));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let whole = read(BodyLength::Chunked, &[&bytes]);
        let single: Vec<_> = bytes.chunks(1).collect();
        prop_assert_eq!(read(BodyLength::Chunked, &single).is_ok(), whole.is_ok());
    }
}
