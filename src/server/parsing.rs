//! Parses a request's body without holding up the streams that the same threads serve.

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::access::Caller;
use crate::app::App;
use crate::dialect::{self, Preview};
use crate::limit::MemoryReservation;
use crate::model::{Error, ErrorCode, Request};

/// Bodies of this length and more, in bytes, are parsed on a thread of their own. Below it, parsing
/// takes less time than the switch.
const LARGE: usize = 64 * 1024;

/// How many large bodies are parsed at a time; the others wait. It bounds both the threads that
/// parsing takes from the streams and the memory that it takes at once.
static PARSERS: Semaphore = Semaphore::const_new(2);

/// A body's outline: what is checked before anything is built from it.
pub(super) struct Outline {
    /// As a parser accepts it, with the model of the path where it names none.
    pub(super) body: Bytes,
    /// The model that is asked for. A model in the request's path decides, whatever the body says.
    pub(super) model: Option<String>,
    built_bytes: usize,
}

/// Reads a body's outline and checks the model that it asks for.
///
/// # Errors
/// [`ErrorCode::InvalidRequest`] for a body that is too large to be parsed;
/// [`ErrorCode::NotFound`] and [`ErrorCode::Forbidden`] for the model.
pub(super) async fn outline(
    app: &App,
    caller: &Caller,
    body: Bytes,
    path_model: Option<String>,
) -> Result<Outline, Error> {
    let outline = run(body.len(), move || {
        let body = dialect::normalize(body);
        let preview = Preview::parse(&body)?;
        let built_bytes = preview.built_bytes();
        let body = match &path_model {
            Some(model) if preview.model.is_none() => with_model(&body, model),
            _ => body,
        };
        Ok(Outline {
            body,
            model: path_model.or(preview.model),
            built_bytes,
        })
    })
    .await?;
    if let Some(model) = &outline.model {
        app.route(model, caller)?;
    }
    Ok(outline)
}

/// Parses a body with `parse`. The model that it asks for is checked before anything is built from it.
///
/// # Errors
/// As [`outline`]; [`ErrorCode::InvalidRequest`], naming the field.
pub(super) async fn parse(
    parse: impl FnOnce(&Bytes) -> Result<Request, Error> + Send + 'static,
    app: &App,
    caller: &Caller,
    body: Bytes,
    path_model: Option<String>,
    memory: &mut MemoryReservation,
) -> Result<(Request, Bytes), Error> {
    let named = path_model.clone();
    let Outline {
        body, built_bytes, ..
    } = outline(app, caller, body, path_model).await?;
    memory.reserve_built(built_bytes)?;
    let parsed = body.clone();
    let mut request = run(body.len(), move || parse(&parsed)).await?;
    if let Some(model) = named {
        request.model = model;
    }
    request.check_names()?;
    if caller.is_restricted() {
        dialect::check_routing(&request)?;
    }
    Ok((request, body))
}

/// The body of an object, with a model as its first member. What is no object stays as it is.
fn with_model(body: &Bytes, model: &str) -> Bytes {
    let Some(members) = body.trim_ascii_start().strip_prefix(b"{") else {
        return body.clone();
    };
    let separator = match members.trim_ascii_start().first() {
        Some(b'}') | None => "",
        Some(_) => ",",
    };
    let first = format!("{{\"model\":{}{separator}", serde_json::Value::from(model));
    [first.as_bytes(), members].concat().into()
}

/// Does the work for a body of `length` bytes. The caller waits for it; if the caller is dropped,
/// the work still runs to its end, which the body's length bounds, and keeps its place among the
/// parsers until then.
async fn run<T: Send + 'static>(
    length: usize,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if length < LARGE {
        return work();
    }
    let failed = || Error::new(ErrorCode::Internal, "the request could not be parsed");
    let Ok(place) = PARSERS.acquire().await else {
        return Err(failed());
    };
    let task = spawn_blocking(move || {
        let _place = place;
        work()
    });
    // It fails where the work panicked or the runtime shuts down.
    task.await.unwrap_or_else(|_| Err(failed()))
}
