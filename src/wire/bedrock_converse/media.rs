//! Images and documents in a Converse message.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::model::{Error, Media, MediaSource};

/// The document names of a request. The API requires them to be unique.
#[derive(Default)]
pub(super) struct DocumentNames {
    taken: HashSet<String>,
    /// The last number that was added to a name.
    numbers: HashMap<String, usize>,
}

/// The maximum length of a document's name in characters. It leaves room for a number at the end.
const MAX_NAME_LENGTH: usize = 190;

/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ImageBlock.html>
pub(super) fn image(field: &str, media: &Media) -> Result<Value, Error> {
    let field = format!("{field}.image_url");
    let format = |kind: &str| match kind {
        "png" => Some("png"),
        "jpeg" | "jpg" => Some("jpeg"),
        "gif" => Some("gif"),
        "webp" => Some("webp"),
        _ => None,
    };
    let found = match &media.source {
        MediaSource::Inline { media_type, .. } => {
            media_type.strip_prefix("image/").and_then(format)
        }
        MediaSource::Url(url) => extension(url).and_then(format),
        MediaSource::Id(_) => None,
    };
    let source = source(&field, media)?;
    let Some(format) = found else {
        let problem = "this model's upstream accepts PNG, JPEG, GIF and WebP images";
        return Err(Error::invalid(&field, problem));
    };
    Ok(json!({ "image": { "format": format, "source": source } }))
}

/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_DocumentBlock.html>
pub(super) fn document(
    field: &str,
    media: &Media,
    names: &mut DocumentNames,
) -> Result<Value, Error> {
    if let MediaSource::Inline { media_type, .. } = &media.source
        && media_type.starts_with("image/")
    {
        return image(field, media);
    }
    let field = format!("{field}.file");
    let source = source(&field, media)?;
    let format = match &media.source {
        MediaSource::Inline { media_type, .. } => match document_format(media_type) {
            Some(format) => Some(format),
            None => {
                return Err(Error::invalid(
                    &field,
                    format!(
                        "this model's upstream accepts PDF, Office, HTML and text files, not {media_type}"
                    ),
                ));
            }
        },
        MediaSource::Url(url) => extension(url).filter(|extension| FORMATS.contains(extension)),
        MediaSource::Id(_) => None,
    };
    let mut document =
        json!({ "name": names.make_unique(media.name.as_deref()), "source": source });
    if let Some(format) = format {
        document["format"] = json!(format);
    }
    Ok(json!({ "document": document }))
}

const FORMATS: [&str; 9] = [
    "pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md",
];

fn document_format(media_type: &str) -> Option<&'static str> {
    let kind = media_type.split(';').next().unwrap_or_default().trim();
    Some(match kind {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        "text/html" => "html",
        "text/markdown" => "md",
        "application/json" => "txt",
        kind if kind.starts_with("text/") => "txt",
        _ => return None,
    })
}

/// Inline bytes or an S3 location. The API fetches nothing from other places.
fn source(field: &str, media: &Media) -> Result<Value, Error> {
    match &media.source {
        MediaSource::Inline { base64, .. } => Ok(json!({ "bytes": base64 })),
        MediaSource::Url(url) if url.starts_with("s3://") => {
            Ok(json!({ "s3Location": { "uri": url } }))
        }
        MediaSource::Url(_) | MediaSource::Id(_) => Err(Error::invalid(
            field,
            "this model's upstream accepts only data: and s3:// URLs; send the content inline",
        )),
    }
}

/// The text after the last dot of a URL's last segment.
fn extension(url: &str) -> Option<&str> {
    let (_, segment) = url.rsplit_once('/')?;
    segment.rsplit_once('.').map(|(_, extension)| extension)
}

impl DocumentNames {
    /// A legal name like `wanted`: letters, digits, single spaces, hyphens and brackets. What tells
    /// its format is left out, for the format is told beside it.
    fn make_unique(&mut self, requested: Option<&str>) -> String {
        let requested = requested.unwrap_or_default();
        let stem = requested
            .rsplit_once('.')
            .map_or(requested, |(stem, _)| stem);
        let to_allowed = |c: char| match c {
            c if c.is_ascii_alphanumeric() || "-()[]".contains(c) => c,
            c if c.is_whitespace() => ' ',
            _ => '-',
        };
        let text: String = stem.chars().take(MAX_NAME_LENGTH).map(to_allowed).collect();
        let words: Vec<&str> = text.split_whitespace().collect();
        let base = if words.is_empty() {
            "document".to_owned()
        } else {
            words.join(" ")
        };
        let mut name = base.clone();
        let number = self.numbers.entry(base.clone()).or_insert(1);
        while !self.taken.insert(name.clone()) {
            *number += 1;
            name = format!("{base}-{number}");
        }
        name
    }
}
