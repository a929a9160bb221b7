//! Several streams over one connection, because browsers allow only six connections per host.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};

use super::viewer::{Heartbeat, Reader};
use crate::dialect::native::log_codec;
use crate::model::{Error, Ordinal, StreamId};

/// How much is written at once, in bytes.
const BATCH_BYTES: usize = 32 * 1024;

/// How far a client has read each of its streams, as an event's id: `mx_`, then for each stream the
/// first 8 characters of its id's random part, `-` and the number of the last event read, joined by
/// `.`. Opaque to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions(Vec<(String, Ordinal)>);

/// An HTTP body with the events of several streams, each with its `"stream"`.
pub struct Multiplex {
    subscriptions: Vec<Subscription>,
    heartbeat: Heartbeat,
    /// Whether the client was sent the time after which it should reconnect.
    wrote_retry: bool,
}

/// One of the streams.
pub struct Subscription {
    pub stream: StreamId,
    /// The ordinal of the last event that the client has.
    pub seen: Option<Ordinal>,
    pub source: SubscriptionSource,
}

/// Where a subscription's events come from.
pub enum SubscriptionSource {
    Reader(Reader),
    /// The stream cannot be read; the client gets this error once.
    Failed(Error),
    /// The client has all events.
    Finished,
}

impl Positions {
    /// Parses what [`Multiplex`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let subscriptions = text.strip_prefix("mx_")?.split('.');
        let subscription = |subscription: &str| {
            let (stream, ordinal) = subscription.split_once('-')?;
            let legal = stream.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let ordinal = Ordinal::parse(ordinal).filter(|_| legal)?;
            Some((stream.to_owned(), ordinal))
        };
        subscriptions
            .map(subscription)
            .collect::<Option<_>>()
            .map(Self)
    }

    /// The ordinal of the last event that the client has of `stream`.
    pub fn position_of(&self, stream: StreamId) -> Option<Ordinal> {
        let id_prefix = id_prefix(stream);
        let mut subscriptions = self.0.iter();
        subscriptions
            .find(|(subscription, _)| *subscription == id_prefix)
            .map(|subscription| subscription.1)
    }
}

impl Multiplex {
    pub fn new(subscriptions: Vec<Subscription>, heartbeat: Heartbeat) -> Self {
        Self {
            subscriptions,
            heartbeat,
            wrote_retry: false,
        }
    }

    /// Everything that is ready now, up to one batch.
    fn read(&mut self, context: &mut Context<'_>) -> BytesMut {
        let mut out = BytesMut::new();
        for index in 0..self.subscriptions.len() {
            while out.len() < BATCH_BYTES {
                let subscription = &mut self.subscriptions[index];
                match &mut subscription.source {
                    SubscriptionSource::Finished => break,
                    SubscriptionSource::Failed(error) => {
                        let error = log_codec::error_data(error);
                        subscription.source = SubscriptionSource::Finished;
                        self.write(index, "error", &error, &mut out);
                    }
                    SubscriptionSource::Reader(reader) => match reader.poll_bytes(context) {
                        Poll::Pending => break,
                        Poll::Ready(None) => subscription.source = SubscriptionSource::Finished,
                        Poll::Ready(Some(Err(disconnected))) => {
                            subscription.source = SubscriptionSource::Failed(disconnected.error)
                        }
                        Poll::Ready(Some(Ok(bytes))) => {
                            for event in log_codec::parse_events(&bytes) {
                                self.subscriptions[index].seen = Some(event.ordinal);
                                self.write(index, event.name, event.data, &mut out);
                            }
                        }
                    },
                }
            }
        }
        out
    }

    /// Writes one event. `data` is a JSON object with at least one field.
    fn write(&mut self, index: usize, name: &str, data: &str, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.wrote_retry, true) {
            log_codec::write_retry(out);
        }
        out.put_slice(b"id: mx_");
        let seen = self
            .subscriptions
            .iter()
            .filter_map(|subscription| Some((subscription.stream, subscription.seen?)));
        for (place, (stream, ordinal)) in seen.enumerate() {
            let dot = if place == 0 { "" } else { "." };
            out.put_slice(format!("{dot}{}-{ordinal}", id_prefix(stream)).as_bytes());
        }
        out.put_slice(format!("\nevent: {name}\ndata: ").as_bytes());
        // A start event has the field already.
        if data.starts_with("{\"stream\":") {
            out.put_slice(data.as_bytes());
        } else {
            let stream = self.subscriptions[index].stream;
            out.put_slice(format!("{{\"stream\":\"{stream}\",").as_bytes());
            out.put_slice(&data.as_bytes()[1..]);
        }
        out.put_slice(b"\n\n");
    }

    fn is_finished(&self) -> bool {
        let mut subscriptions = self.subscriptions.iter();
        subscriptions
            .all(|subscription| matches!(subscription.source, SubscriptionSource::Finished))
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
            this.heartbeat.reset();
            read.freeze()
        } else if this.is_finished() {
            return Poll::Ready(None);
        } else {
            ready!(this.heartbeat.poll(context))
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

/// Enough of a stream's id to distinguish the streams of one connection.
fn id_prefix(stream: StreamId) -> String {
    stream.hint()["st_".len()..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_parse_or_are_refused() {
        let positions = Positions::parse("mx_aaaaaaaa-07.bbbbbbbb-0").unwrap();
        let (epoch, number) = (1, 7);
        let seventh = Ordinal { epoch, number };
        assert_eq!(positions.position_of(StreamId::fixed(0)), Some(seventh));
        assert_eq!(positions.position_of(StreamId::fixed(u128::MAX)), None);
        for text in [
            "", "mx_", "mx_a", "mx_a-", "mx_a-1.", "mx_a-+1", "st_a.1", "mx_a b-1",
        ] {
            assert_eq!(Positions::parse(text), None, "{text}");
        }
    }
}
