//! What must hold for any bytes that an upstream sends, in any pieces.

use sluicegate::framing::{Framer, Framing, Remainder};
use sluicegate::model::{Error, ErrorCode, Event};
use sluicegate::upstream::exchange::decoder::{Decoder, Malformed};
use sluicegate::upstream::exchange::head;
use sluicegate::upstream::ingest::Ingest;
use sluicegate::wire;

/// Small, so that the fuzzer finds its way over it.
const CAP: usize = 4096;

/// The same frames for every way of cutting `input`, none over the cap.
pub fn framing(framing: Framing, input: &[u8]) {
    let (pieces, bytes) = cut(input);
    let whole = frames(framing, &[bytes]);
    assert_eq!(
        whole,
        frames(framing, &pieces),
        "the pieces changed the frames"
    );
}

/// The same events for every way of cutting `input`; one terminal, and nothing behind it.
pub fn wire(name: &str, input: &[u8]) {
    let (pieces, bytes) = cut(input);
    let whole = events(name, &[bytes]);
    let split = events(name, &pieces);
    assert_eq!(whole, split, "the pieces changed the events");
    let by_name = wire::by_name(name).expect("a wire of that name");
    let parsed = read(Ingest::new(by_name, CAP).without_template(), &[bytes]);
    assert_eq!(whole, parsed, "the template changed the events");
    let (events, outcome) = whole;
    let finishes = events.iter().filter(|event| event.starts_with("Finish"));
    assert_eq!(
        finishes.count(),
        usize::from(outcome.is_ok()),
        "{events:?} {outcome:?}"
    );
    if outcome.is_ok() {
        assert!(
            events
                .last()
                .is_some_and(|event| event.starts_with("Finish"))
        );
    }
}

/// An upstream's head and body: the same content for every way of cutting the body, never more than
/// came, and what follows it as it was.
pub fn exchange(input: &[u8]) {
    let (seed, bytes) = input.split_at(input.len().min(2));
    let Ok(Some((head, length))) = head::parse(bytes) else {
        return;
    };
    assert!(length <= bytes.len());
    // A head that is not whole is none yet.
    for cut in [1, 2, length / 2, length] {
        assert!(!matches!(
            head::parse(&bytes[..length - cut.min(length)]),
            Ok(Some(_))
        ));
    }
    let input = [seed, &bytes[length..]].concat();
    let (pieces, body) = cut(&input);
    let whole = content(head.length, &[body]);
    assert_eq!(
        whole,
        content(head.length, &pieces),
        "the pieces changed the content"
    );
    let (content, end, behind) = whole;
    assert!(content.len() + behind.len() <= body.len());
    assert!(body.ends_with(&behind));
    if let (head::BodyLength::Known(length), Ok(ended)) = (head.length, end) {
        assert_eq!(content.len() as u64, length.min(body.len() as u64));
        assert_eq!(ended, length <= body.len() as u64);
    }
}

type Content = (Vec<u8>, Result<bool, Malformed>, Vec<u8>);

fn content(length: head::BodyLength, pieces: &[&[u8]]) -> Content {
    let mut decoder = Decoder::new(length);
    let (mut content, mut behind) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match decoder.next(&mut rest) {
                Ok(Some(bytes)) => content.extend_from_slice(bytes),
                Ok(None) => break,
                Err(malformed) => return (content, Err(malformed), behind),
            }
        }
        behind.extend_from_slice(rest);
    }
    (content, Ok(decoder.is_ended()), behind)
}

type Frames = (Vec<(String, String)>, Result<Remainder, ErrorCode>);

fn frames(framing: Framing, pieces: &[&[u8]]) -> Frames {
    let mut framer = Framer::new(framing, CAP);
    let mut frames = Vec::new();
    for piece in pieces {
        let pushed = framer.push(piece, &mut |frame| {
            // Each invalid byte may have become the three of U+FFFD.
            assert!(
                frame.data.len() <= 3 * CAP,
                "a frame of {} bytes",
                frame.data.len()
            );
            frames.push((frame.name.to_owned(), frame.data.to_owned()));
            Ok(())
        });
        if let Err(error) = pushed {
            return (frames, Err(error.code()));
        }
    }
    let remainder = framer.end().map_err(|error| error.code());
    (frames, remainder)
}

type Events = (Vec<String>, Result<(), ErrorCode>);

fn events(name: &str, pieces: &[&[u8]]) -> Events {
    let wire = wire::by_name(name).expect("a wire of that name");
    read(Ingest::new(wire, CAP), pieces)
}

fn read(mut ingest: Ingest, pieces: &[&[u8]]) -> Events {
    let mut events = Vec::new();
    let mut sink = |event: Event<'_>| events.push(format!("{event:?}"));
    let mut read = || -> Result<(), Error> {
        for piece in pieces {
            ingest.push(piece, &mut sink)?;
        }
        ingest.end(&mut sink)
    };
    let outcome = read().map_err(|error| error.code());
    (events, outcome)
}

/// The first two bytes say how the rest is cut.
fn cut(input: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let (seed, bytes) = input.split_at(input.len().min(2));
    let mut state = seed
        .iter()
        .fold(1_u32, |state, byte| state * 257 + u32::from(*byte));
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = match state >> 29 {
            0..=3 => 1,
            4 | 5 => 1 + (state >> 8) as usize % 8,
            _ => 1 + (state >> 8) as usize % 256,
        };
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    (pieces, bytes)
}
