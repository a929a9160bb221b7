//! What the gateway makes of every fixture, and that it makes the same of it in any pieces.
//!
//! `UPDATE_GOLDENS=1 cargo test goldens` rewrites the files; they are to be read before they are
//! committed.

use std::fs;
use std::path::{Path, PathBuf};

use sluicegate::dialect;
use sluicegate::fixture::{Case, Library};
use sluicegate::model::{Event, Request};
use sluicegate::pipeline::{self, PipelineOutput};
use sluicegate::upstream::ingest::Ingest;
use sluicegate::wire::{self, Wire};

use crate::chunks::pieces;
use crate::native_encoder;

#[test]
fn every_fixture_has_its_goldens() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let library = library();
    let mut wrong = Vec::new();
    for (wire, case) in cases(&library) {
        let events = made(wire, case, &[&case.body]).events;
        let mut goldens = vec![("events.golden".to_owned(), events.into_bytes())];
        for (_, dialect) in dialect::ALL {
            let request = request(case);
            let bytes = pipeline::bytes(wire, *dialect, &request, [&case.body[..]]);
            goldens.push((format!("{}.golden", dialect.name()), bytes.to_vec()));
        }
        for (name, content) in goldens {
            let path = folder().join(&case.wire).join(&case.name).join(name);
            if update {
                fs::write(&path, &content).unwrap();
            }
            match fs::read(&path) {
                Ok(golden) if golden == content => {}
                Ok(golden) => wrong.push(format!(
                    "{} differs:\n{}",
                    path.display(),
                    first_difference(&golden, &content)
                )),
                Err(error) => wrong.push(format!("{}: {error}", path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_golden_outlives_its_fixture() {
    let library = library();
    for wire in fs::read_dir(folder()).unwrap() {
        let wire = wire.unwrap().path();
        if !wire.is_dir() {
            continue;
        }
        for case in fs::read_dir(&wire).unwrap() {
            let case = case.unwrap().path();
            let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(
                library.case(&name(&wire), &name(&case)).is_some(),
                "{} is no fixture",
                case.display()
            );
        }
    }
}

/// One start, one terminal event, nothing behind it, ids that count up from 0: for whatever the
/// upstream sent.
#[test]
fn every_fixture_becomes_a_legal_stream() {
    let library = library();
    for (wire, case) in cases(&library) {
        let made = made(wire, case, &[&case.body]);
        let events = native_encoder::read(&made.bytes);
        let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
        let at = format!("{}/{}: {names:?}", case.wire, case.name);
        let (first, rest) = names.split_first().unwrap();
        let (last, middle) = rest.split_last().unwrap();
        assert_eq!(*first, "start", "{at}");
        assert!(["complete", "error"].contains(last), "{at}");
        for name in middle {
            let content = ["token", "reasoning", "tool_call", "citation"];
            assert!(content.contains(name), "{at}");
        }
        assert_eq!(
            *last == "error",
            made.events.contains("\nerror ") || made.events.starts_with("error "),
            "{at}"
        );
    }
}

/// Every byte is a cut. A short answer is cut in two at each; of a longer one the same passes are
/// made with several cuts at once, unless `FULL_SPLITS` asks for all of them (half a minute).
#[test]
fn a_cut_anywhere_changes_nothing() {
    const SHORT: usize = 1024;
    const APART: usize = 256;
    let full = std::env::var_os("FULL_SPLITS").is_some();
    let library = library();
    for (wire, case) in cases(&library) {
        let body = &case.body[..];
        let whole = made(wire, case, &[body]);
        if full || body.len() <= SHORT {
            for at in 0..=body.len() {
                let (head, tail) = body.split_at(at);
                check(&whole, wire, case, &[head, tail], &format!("cut at {at}"));
            }
        } else {
            for first in 1..=APART {
                let (head, tail) = body.split_at(first);
                let chunks: Vec<&[u8]> = std::iter::once(head).chain(tail.chunks(APART)).collect();
                let how = format!("cut at {first} and every {APART} bytes from there");
                check(&whole, wire, case, &chunks, &how);
            }
        }
    }
}

#[test]
fn single_bytes_and_odd_pieces_change_nothing() {
    let library = library();
    for (wire, case) in cases(&library) {
        let whole = made(wire, case, &[&case.body]);
        let single: Vec<&[u8]> = case.body.chunks(1).collect();
        check(&whole, wire, case, &single, "byte by byte");
        for seed in 0..16 {
            let odd = pieces(&case.body, seed);
            check(&whole, wire, case, &odd, &format!("pieces of seed {seed}"));
        }
    }
}

/// The template may only spare work: with every frame parsed, the events are the same.
#[test]
fn every_fixture_gives_the_same_events_without_the_template() {
    let library = library();
    for (wire, case) in cases(&library) {
        let events = |mut ingest: Ingest| {
            let mut events = Vec::new();
            let mut sink = |event: Event<'_>| events.push(pipeline::line(&event));
            let mut outcome = ingest.push(&case.body, &mut sink);
            if outcome.is_ok() {
                outcome = ingest.end(&mut sink);
            }
            (events, outcome.map_err(|error| error.to_string()))
        };
        let ingest = || Ingest::new(wire, pipeline::FRAME_CAP);
        assert_eq!(
            events(ingest()),
            events(ingest().without_template()),
            "{}/{}",
            case.wire,
            case.name
        );
    }
}

fn check(whole: &PipelineOutput, wire: &dyn Wire, case: &Case, chunks: &[&[u8]], how: &str) {
    let other = made(wire, case, chunks);
    assert_eq!(*whole, other, "{}/{}, {how}", case.wire, case.name);
}

fn made(wire: &dyn Wire, case: &Case, chunks: &[&[u8]]) -> PipelineOutput {
    let request = request(case);
    pipeline::run(wire, dialect::NATIVE, &request, chunks.iter().copied())
}

fn request(case: &Case) -> Request {
    Request {
        model: case.name.clone(),
        stream: true,
        usage_wanted: true,
        ..Request::default()
    }
}

fn first_difference(golden: &[u8], now: &[u8]) -> String {
    let (golden, now) = (
        String::from_utf8_lossy(golden),
        String::from_utf8_lossy(now),
    );
    let lines = golden.lines().count().max(now.lines().count());
    for number in 0..lines {
        let (was, is) = (golden.lines().nth(number), now.lines().nth(number));
        if was != is {
            let shown = |line: Option<&str>| line.unwrap_or("(the end)").to_owned();
            return format!("line {}\n  - {}\n  + {}", number + 1, shown(was), shown(is));
        }
    }
    "  in its line ends".to_owned()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-fixtures")
}

pub fn library() -> Library {
    Library::load(&folder()).unwrap()
}

/// Every case with the wire that its folder is named for.
pub fn cases(library: &Library) -> Vec<(&'static dyn Wire, &Case)> {
    let mut cases = Vec::new();
    for name in library.wires() {
        let wire = wire::by_name(name).unwrap_or_else(|| panic!("{name} is no wire"));
        cases.extend(library.cases(name).map(|case| (wire, case)));
    }
    cases
}
