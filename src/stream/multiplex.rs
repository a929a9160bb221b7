//! Several streams over one connection, for browsers, which allow six of them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};

use super::viewer::{Heartbeat, Reader};
use crate::dialect::native;
use crate::model::{Error, Ordinal, StreamId};

/// How much is written at once, in bytes.
const BATCH: usize = 32 * 1024;

/// How far a client has read each of its streams, as the id of an event says it: `mx_`, then for
/// each stream the first 8 characters of its id's random part, `-` and the number of the last event
/// read, joined by `.`. Opaque to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions(Vec<(String, Ordinal)>);

/// The events of several streams as they come, each with its `"stream"`.
pub struct Multiplex {
    lanes: Vec<Lane>,
    heartbeat: Heartbeat,
    /// Whether the client was told how long to wait before it comes back.
    begun: bool,
}

/// One of the streams.
pub struct Lane {
    pub stream: StreamId,
    /// The place of the last event that the client has.
    pub seen: Option<Ordinal>,
    pub source: Source,
}

/// What a lane has to say.
pub enum Source {
    Reader(Reader),
    /// The stream cannot be read; this is told once.
    Refused(Error),
    /// The client has everything.
    Over,
}

impl Positions {
    /// Reads what [`Multiplex`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let lanes = text.strip_prefix("mx_")?.split('.');
        let lane = |lane: &str| {
            let (stream, ordinal) = lane.split_once('-')?;
            let legal = stream.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let ordinal = Ordinal::parse(ordinal).filter(|_| legal)?;
            Some((stream.to_owned(), ordinal))
        };
        lanes.map(lane).collect::<Option<_>>().map(Self)
    }

    /// The place of the last event that the client has of `stream`.
    pub fn of(&self, stream: StreamId) -> Option<Ordinal> {
        let short = short(stream);
        let mut lanes = self.0.iter();
        lanes.find(|(lane, _)| *lane == short).map(|lane| lane.1)
    }
}

impl Multiplex {
    pub fn new(lanes: Vec<Lane>, heartbeat: Heartbeat) -> Self {
        Self {
            lanes,
            heartbeat,
            begun: false,
        }
    }

    /// Everything that is there now, within a batch.
    fn read(&mut self, context: &mut Context<'_>) -> BytesMut {
        let mut out = BytesMut::new();
        for index in 0..self.lanes.len() {
            while out.len() < BATCH {
                let lane = &mut self.lanes[index];
                match &mut lane.source {
                    Source::Over => break,
                    Source::Refused(error) => {
                        let error = native::error_data(error);
                        lane.source = Source::Over;
                        self.write(index, "error", &error, &mut out);
                    }
                    Source::Reader(reader) => match reader.poll_bytes(context) {
                        Poll::Pending => break,
                        Poll::Ready(None) => lane.source = Source::Over,
                        Poll::Ready(Some(Err(cut))) => lane.source = Source::Refused(cut.why),
                        Poll::Ready(Some(Ok(bytes))) => {
                            for told in native::told(&bytes) {
                                self.lanes[index].seen = Some(told.ordinal);
                                self.write(index, told.name, told.data, &mut out);
                            }
                        }
                    },
                }
            }
        }
        out
    }

    /// One event. `data` is a JSON object with at least one field.
    fn write(&mut self, index: usize, name: &str, data: &str, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.begun, true) {
            native::retry(out);
        }
        out.put_slice(b"id: mx_");
        let seen = self
            .lanes
            .iter()
            .filter_map(|lane| Some((lane.stream, lane.seen?)));
        for (place, (stream, ordinal)) in seen.enumerate() {
            let dot = if place == 0 { "" } else { "." };
            out.put_slice(format!("{dot}{}-{ordinal}", short(stream)).as_bytes());
        }
        out.put_slice(format!("\nevent: {name}\ndata: ").as_bytes());
        // A start names its stream itself.
        if data.starts_with("{\"stream\":") {
            out.put_slice(data.as_bytes());
        } else {
            let stream = self.lanes[index].stream;
            out.put_slice(format!("{{\"stream\":\"{stream}\",").as_bytes());
            out.put_slice(&data.as_bytes()[1..]);
        }
        out.put_slice(b"\n\n");
    }

    fn over(&self) -> bool {
        let mut lanes = self.lanes.iter();
        lanes.all(|lane| matches!(lane.source, Source::Over))
    }
}

impl Body for Multiplex {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let read = this.read(context);
        let bytes = if !read.is_empty() {
            this.heartbeat.wrote();
            read.freeze()
        } else if this.over() {
            return Poll::Ready(None);
        } else {
            ready!(this.heartbeat.poll(context))
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

/// Enough of a stream's id to tell the streams of one connection apart.
fn short(stream: StreamId) -> String {
    stream.hint()["st_".len()..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_or_refused() {
        let positions = Positions::parse("mx_aaaaaaaa-07.bbbbbbbb-0").unwrap();
        let (epoch, number) = (1, 7);
        let seventh = Ordinal { epoch, number };
        assert_eq!(positions.of(StreamId::fixed(0)), Some(seventh));
        assert_eq!(positions.of(StreamId::fixed(u128::MAX)), None);
        for text in [
            "", "mx_", "mx_a", "mx_a-", "mx_a-1.", "mx_a-+1", "st_a.1", "mx_a b-1",
        ] {
            assert_eq!(Positions::parse(text), None, "{text}");
        }
    }
}
