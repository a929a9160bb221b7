//! Images and files in a request.

use serde_json::{Value, json};

use crate::model::{Media, MediaSource};
use crate::wire::request_parts::registered_media_type;

/// The media types that the API accepts, by file extension.
/// <https://ai.google.dev/gemini-api/docs/file-input-methods>
const TYPES: [(&str, &str); 12] = [
    (".png", "image/png"),
    (".jpg", "image/jpeg"),
    (".jpeg", "image/jpeg"),
    (".webp", "image/webp"),
    (".heic", "image/heic"),
    (".heif", "image/heif"),
    (".pdf", "application/pdf"),
    (".txt", "text/plain"),
    (".mp3", "audio/mp3"),
    (".wav", "audio/wav"),
    (".mp4", "video/mp4"),
    (".webm", "video/webm"),
];

/// An uploaded file is referred to by its URI. The API has no field for names and `detail`.
pub(super) fn part(media: &Media) -> Value {
    let uri = match &media.source {
        MediaSource::Inline { media_type, base64 } => {
            let media_type = registered_media_type(media_type);
            return json!({ "inlineData": { "mimeType": media_type, "data": base64 } });
        }
        MediaSource::Url(uri) | MediaSource::Id(uri) => uri,
    };
    match media_type_of(uri) {
        Some(kind) => json!({ "fileData": { "mimeType": kind, "fileUri": uri } }),
        None => json!({ "fileData": { "fileUri": uri } }),
    }
}

fn media_type_of(uri: &str) -> Option<&'static str> {
    let path = uri.split(['?', '#']).next()?.to_ascii_lowercase();
    let found = TYPES.iter().find(|(ending, _)| path.ends_with(ending));
    found.map(|(_, kind)| *kind)
}
