//! API keys: who may call the gateway, which models they may use, and their limits. The config
//! holds only hashes.

use std::collections::HashMap;
use std::fmt::Write;

use super::glob::Glob;
use super::models::Models;
use super::read::{Field, Reader, Section, closest_name};
use super::settings::read_rate;
use super::unit;
use crate::model::Rate;

/// One API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyConfig {
    pub name: String,
    /// SHA-256 of the whole key.
    pub sha256: [u8; 32],
    /// The models that it may use; `None`: all.
    pub models: Option<Vec<Glob>>,
    pub limits: KeyLimitsConfig,
}

/// The limits of one key. `None`: unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyLimitsConfig {
    pub requests: Option<Rate>,
    pub tokens: Option<Rate>,
    /// Streams that may be open at once.
    pub streams: Option<u64>,
}

/// Lower-case hexadecimal, the notation of `sha256`.
pub fn write_hash(hash: &[u8; 32]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in hash {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// Reads `keys`. `None`: the file has no `keys`, which differs from an empty list.
pub fn read(
    reader: &mut Reader,
    field: Option<&Field<'_>>,
    models: &Models,
) -> Option<Vec<KeyConfig>> {
    let field = field?;
    let items = reader.items(field)?;
    if items.is_empty() {
        reader.add_problem(
            field,
            "must not be empty; add a key (`sluicegate keys new`) or remove `keys`",
        );
    }
    let mut names = HashMap::new();
    let mut hashes = HashMap::new();
    let mut keys = Vec::with_capacity(items.len());
    for item in &items {
        let section = reader.section(item, &["name", "sha256", "models", "limits"]);
        let name = required(reader, &section, "name").and_then(|field| {
            let name = reader.text(field)?;
            report_duplicate(reader, field, &mut names, name.to_owned());
            Some(name)
        });
        let sha256 = required(reader, &section, "sha256").and_then(|field| {
            let hash = read_hash(reader, field)?;
            report_duplicate(reader, field, &mut hashes, hash);
            Some(hash)
        });
        let globs = section
            .get("models")
            .map(|field| read_globs(reader, field, models));
        let limits = read_limits(reader, section.get("limits"));
        if let (Some(name), Some(sha256)) = (name, sha256) {
            keys.push(KeyConfig {
                name: name.to_owned(),
                sha256,
                models: globs,
                limits,
            });
        }
    }
    Some(keys)
}

fn required<'s, 'a>(
    reader: &mut Reader,
    section: &'s Section<'a>,
    key: &str,
) -> Option<&'s Field<'a>> {
    let field = section.get(key);
    if field.is_none() {
        reader.add_problem(&section.field.missing(key), "is missing");
    }
    field
}

/// Reports a value that another key already has, with the path of that key.
fn report_duplicate<T: Eq + std::hash::Hash>(
    reader: &mut Reader,
    field: &Field<'_>,
    seen: &mut HashMap<T, String>,
    value: T,
) {
    if let Some(other) = seen.get(&value) {
        reader.add_problem(
            field,
            format!("is the same as {other}; every key needs its own"),
        );
    } else {
        seen.insert(value, field.path.clone());
    }
}

/// The value is not quoted in messages, because it may be the key itself.
fn read_hash(reader: &mut Reader, field: &Field<'_>) -> Option<[u8; 32]> {
    let text = reader.text(field)?;
    let mut hash = [0; 32];
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let Some(digits) = digits.filter(|digits| digits.len() == 64) else {
        reader.add_problem(
            field,
            "is not a SHA-256 of 64 hexadecimal digits; `sluicegate keys new` prints one",
        );
        return None;
    };
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        // Two hexadecimal digits are one byte.
        *byte = (pair[0] * 16 + pair[1]) as u8;
    }
    Some(hash)
}

fn read_globs(reader: &mut Reader, field: &Field<'_>, models: &Models) -> Vec<Glob> {
    let items = reader.items(field).unwrap_or_default();
    let mut globs = Vec::with_capacity(items.len());
    for item in &items {
        let Some(text) = reader.text(item) else {
            continue;
        };
        // An unknown name is probably a typing mistake but does no harm, so it is only a warning.
        if !text.contains('*') && models.find(text).is_none() {
            let near = closest_name(text, models.iter().map(|model| model.name.as_str()));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            reader.add_warning(item, format!("there is no model `{text}`{hint}"));
        }
        globs.push(Glob::new(text));
    }
    globs
}

fn read_limits(reader: &mut Reader, field: Option<&Field<'_>>) -> KeyLimitsConfig {
    let Some(field) = field else {
        return KeyLimitsConfig::default();
    };
    let section = reader.section(field, &["requests", "tokens", "streams"]);
    KeyLimitsConfig {
        requests: read_rate(reader, &section, "requests"),
        tokens: read_rate(reader, &section, "tokens"),
        streams: reader.setting(&section, "streams", None, |text| {
            unit::parse_count(text).map(Some)
        }),
    }
}
