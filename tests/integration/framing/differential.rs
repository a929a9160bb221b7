//! The framer beside `eventsource-stream`, which shares no code with it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use eventsource_stream::EventStream;
use futures_core::Stream;
use proptest::prelude::*;
use sluicegate::framing::{Framing, Remainder};

use super::bodies::stream;
use super::{ROOM, framed};
use crate::naive_sse;

/// Lines, one after the other.
struct Lines(VecDeque<String>);

impl Stream for Lines {
    type Item = Result<String, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// Name and data of every event. It panics on a byte order mark, waits for one byte more behind a
/// CR and gives up at invalid UTF-8, so it is given clean text, line by line.
fn read_by_the_crate(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body) + "\n\n";
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = naive_sse::lines(text).into_iter();
    // A field whose name begins with a byte order mark is one that nobody knows.
    let lines = lines.filter(|line| !line.starts_with('\u{feff}'));
    let lines = lines.map(|line| format!("{line}\n")).collect();
    let mut events = EventStream::new(Lines(lines));
    let mut context = Context::from_waker(Waker::noop());
    let mut read = Vec::new();
    while let Poll::Ready(Some(event)) = Pin::new(&mut events).poll_next(&mut context) {
        let event = event.unwrap();
        let name = match event.event.as_str() {
            "message" => "",
            name => name,
        };
        read.push((name.to_owned(), event.data));
    }
    read
}

proptest! {
    #[test]
    fn both_read_the_same_events(body in stream()) {
        let whole = framed(Framing::Sse, ROOM, &[&body]);
        let mut frames = whole.frames;
        if let Ok(Remainder::Unended { name, data }) = whole.end {
            frames.push((name, data));
        }
        prop_assert_eq!(frames, read_by_the_crate(&body));
    }
}
