//! Listening to notifications, and announcing.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body::Frame;
use serde_json::{Map, Value, json};

use super::admission::ReadAccess;
use super::body::Prompt;
use super::refusal::Refusal;
use super::streaming::Cutoff;
use crate::app::Gateway;
use crate::dialect::NATIVE;
use crate::model::{self, Error, ErrorCode};
use crate::notify::{Listener, Notification};
use crate::stream::Heartbeat;

/// The largest announcement, in bytes.
const MAX_ANNOUNCEMENT: usize = 64 * 1024;
/// When a client that was refused should come back.
const LISTENER_RETRY: Duration = Duration::from_secs(5);
/// After how many milliseconds a client that lost its connection comes back: different for each, so
/// that the listeners of a replica that stops do not reach the others all at once.
const RECONNECT_MS: std::ops::Range<u32> = 1000..4000;

/// Opens a stream of notifications.
pub(super) fn listen(
    gateway: &Gateway,
    access: &ReadAccess,
    last_event_id: Option<&[u8]>,
) -> Result<Response, Refusal> {
    if gateway.draining.is_cancelled() {
        return Err(access.refusal(Error::draining()));
    }
    let limit = access.app.config.limits.listeners;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let Some(listener) = gateway.notifications.listen(last_event_id, most) else {
        gateway.metrics.record_limit_refusal("listeners");
        let message = format!(
            "{limit} clients listen to this replica's notifications, as many as `limits.listeners` \
             allows; try again soon"
        );
        let error = Error::new(ErrorCode::Overloaded, message);
        return Err(access.refusal(error.with_retry_after(Some(LISTENER_RETRY))));
    };
    let cutoff = Cutoff(listener.dropped().clone());
    let body = NotificationBody {
        listener,
        heartbeat: Heartbeat::new(access.app.config.heartbeat, NATIVE.heartbeat()),
        greeted: false,
    };
    let mut response = Response::new(Body::new(body));
    *response.headers_mut() = NATIVE.headers(&model::Request::default());
    access.limits.write(response.headers_mut());
    response.extensions_mut().insert(cutoff);
    Ok(response)
}

/// The HTTP body of one listener.
struct NotificationBody {
    listener: Listener,
    heartbeat: Heartbeat,
    /// Whether the client was sent the time after which it should reconnect.
    greeted: bool,
}

impl http_body::Body for NotificationBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if !std::mem::replace(&mut this.greeted, true) {
            // The head goes out with the first bytes of the body.
            let retry = rand::random_range(RECONNECT_MS);
            let greeting = format!("retry: {retry}\n: listening\n\n");
            return Poll::Ready(Some(Ok(Frame::data(greeting.into()))));
        }
        let bytes = match this.listener.poll_event(context) {
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => {
                // No clean end: the client lacks events.
                return Poll::Ready(Some(Err(std::io::ErrorKind::TimedOut.into())));
            }
            Poll::Ready(Some(Ok(event))) => {
                this.heartbeat.reset();
                event
            }
            Poll::Pending => ready!(this.heartbeat.poll(context)),
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

/// Publishes the announcement in a request's body: to the listeners of all replicas, where they
/// share a state.
pub(super) async fn announce(gateway: &Arc<Gateway>, request: Request) -> Result<Response, Error> {
    let (head, body) = request.into_parts();
    let mut memory = gateway.memory.reservation();
    let body = Prompt::body(&head, body, None);
    let read = body.read(&head.headers, MAX_ANNOUNCEMENT, &mut memory);
    let (body, _) = read.await?;
    let data = parse_announcement(&body)?;
    let app = gateway.app();
    let replicas = match &app.relay {
        Some(relay) if relay.announce(data.clone()).await => "all",
        // The relay has published it here.
        Some(_) => "this",
        None => {
            gateway
                .notifications
                .publish(&Notification::Announcement(data));
            "this"
        }
    };
    let listeners = gateway.notifications.listeners();
    Ok(Json(json!({"replicas": replicas, "listeners": listeners})).into_response())
}

/// The data of `{"event":"announcement","data":{…}}`.
fn parse_announcement(body: &[u8]) -> Result<Map<String, Value>, Error> {
    const FORM: &str = r#"send {"event":"announcement","data":{…}}"#;
    let body: Value = serde_json::from_slice(body).map_err(|problem| {
        let message = format!("the body is not JSON ({problem}); {FORM}");
        Error::new(ErrorCode::InvalidRequest, message)
    })?;
    let Value::Object(mut fields) = body else {
        let message = format!("the body is not a JSON object; {FORM}");
        return Err(Error::new(ErrorCode::InvalidRequest, message));
    };
    match fields.remove("event") {
        Some(event) if event == "announcement" => {}
        _ => {
            let problem = "must be `announcement`, the only event that can be sent from outside";
            return Err(Error::invalid("event", problem));
        }
    }
    let data = match fields.remove("data") {
        Some(Value::Object(data)) => data,
        _ => {
            return Err(Error::invalid(
                "data",
                "must be a JSON object: it becomes the data of the event",
            ));
        }
    };
    match fields.keys().next() {
        Some(unknown) => Err(Error::invalid(
            unknown,
            "is unknown; an announcement has `event` and `data`",
        )),
        None => Ok(data),
    }
}
