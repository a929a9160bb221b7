//! Reads the bodies of requests, within bounds.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, EXPECT};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::dialect::native;
use crate::limit::MemoryReservation;
use crate::model::{Error, ErrorCode};

/// The deadline for a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long, and up to how many bytes, the body of a refused request is read.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);
const DISCARD_CAP: usize = 16 * 1024 * 1024;

/// Where a request's prompt comes from.
pub(super) enum Prompt {
    Body {
        body: Body,
        /// The model that the path names, if it names one.
        model: Option<String>,
        /// Whether the body of a refused request must be read; see [`discard_body`].
        discards: bool,
    },
    /// The query of a `GET`.
    Query {
        model: Option<String>,
        prompt: Option<String>,
    },
}

impl Prompt {
    /// The body of a request with this head.
    pub(super) fn body(head: &Parts, body: Body, model: Option<String>) -> Self {
        Self::Body {
            body,
            model,
            discards: head.version != Version::HTTP_2 && !head.headers.contains_key(EXPECT),
        }
    }

    /// Reads the prompt, at most `limit` bytes, and the model that the path names. What is read is reserved
    /// in `memory`.
    pub(super) async fn read(
        self,
        headers: &HeaderMap,
        limit: usize,
        memory: &mut MemoryReservation,
    ) -> Result<(Bytes, Option<String>), Error> {
        match self {
            Self::Query { model, prompt } => Ok((native::body_from_query(model, prompt)?, None)),
            Self::Body {
                body,
                model,
                discards,
            } => {
                let body = read_body(body, discards, headers, limit, memory).await?;
                Ok((body, model))
            }
        }
    }

    /// Discards the prompt of a request that is refused without reading it.
    pub(super) async fn discard(self) {
        if let Self::Body {
            body,
            discards: true,
            ..
        } = self
        {
            discard_body(body).await;
        }
    }
}

/// Refuses a body that is still encoded: the router has decoded what it can, and removed the header.
///
/// # Errors
/// [`ErrorCode::InvalidRequest`] with the status 415.
fn check_encoding(headers: &HeaderMap) -> Result<(), Error> {
    let encoding = headers.get(CONTENT_ENCODING);
    if encoding.is_none_or(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let message = "content-encoding: send the body as gzip or zstd, or without an encoding";
    let error = Error::new(ErrorCode::InvalidRequest, message);
    Err(error.with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

/// Reads the whole body, at most `limit` bytes. Each piece is reserved in `memory` as it arrives.
async fn read_body(
    mut body: Body,
    discards: bool,
    headers: &HeaderMap,
    limit: usize,
    memory: &mut MemoryReservation,
) -> Result<Bytes, Error> {
    let read = async {
        check_encoding(headers)?;
        if body.size_hint().lower() > limit as u64 {
            return Err(too_large(limit));
        }
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| {
                Error::new(
                    ErrorCode::InvalidRequest,
                    "the request body ended early, or it is not encoded as content-encoding says",
                )
            })?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            if piece.len() > limit - whole.len() {
                return Err(too_large(limit));
            }
            memory.reserve(piece.len())?;
            whole.extend_from_slice(&piece);
        }
        Ok(Bytes::from(whole))
    };
    let whole = match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(whole) => whole,
        Err(_) => Err(Error::new(
            ErrorCode::RequestTimeout,
            format!("the request body did not arrive within {BODY_TIMEOUT:?}"),
        )),
    };
    if discards
        && let Err(error) = &whole
        && matches!(
            error.code(),
            ErrorCode::PayloadTooLarge | ErrorCode::Overloaded
        )
    {
        discard_body(body).await;
    }
    whole
}

fn too_large(limit: usize) -> Error {
    Error::new(
        ErrorCode::PayloadTooLarge,
        format!("the request body is larger than the limit of {limit} bytes"),
    )
}

/// Reads and drops the body of a refused request, within bounds: a client that is still sending when
/// its connection is closed would see a reset in place of the refusal. Not needed over HTTP/2, which
/// stops the one body with RST_STREAM, and for a client that sent `expect: 100-continue`, which waits
/// for permission to send.
async fn discard_body(mut body: Body) {
    let discarding = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DISCARD_CAP {
                break;
            }
        }
    };
    // At the deadline the refusal is sent all the same.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, discarding).await;
}
