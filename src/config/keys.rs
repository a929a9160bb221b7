//! API keys: who may call the gateway, which models they may use, and their limits. The config
//! holds only hashes.

use std::collections::HashMap;
use std::fmt::Write;

use sha2::{Digest as _, Sha256};

use super::glob::Glob;
use super::models::Models;
use super::read::{Field, Reader, Section, closest_name};
use super::schema;
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
        let section = reader.section(item, schema::KEY);
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
    if is_well_known(&hash) {
        reader.add_problem(
            field,
            "is the hash of a well-known word, which anybody can guess; make a key with \
             `sluicegate keys new`",
        );
        return None;
    }
    if hash == [0; 32] {
        reader.add_warning(
            field,
            "is a placeholder that belongs to no key; replace it with a line of \
             `sluicegate keys new`",
        );
    }
    Some(hash)
}

/// Words that people put in the place of a key.
const WELL_KNOWN: &[&str] = &[
    "",
    "0",
    "1",
    "1234",
    "12345",
    "123456",
    "1234567",
    "12345678",
    "123456789",
    "1234567890",
    "EMPTY",
    "abc",
    "abc123",
    "abcd1234",
    "admin",
    "api",
    "api-key",
    "api_key",
    "apikey",
    "change-me",
    "change_me",
    "changeit",
    "changeme",
    "default",
    "demo",
    "demo-key",
    "dev",
    "dummy",
    "empty",
    "example",
    "example-key",
    "foo",
    "foobar",
    "bar",
    "hello",
    "key",
    "key1",
    "letmein",
    "local",
    "master",
    "my-key",
    "my_key",
    "mykey",
    "none",
    "null",
    "ollama",
    "openai",
    "pass",
    "passw0rd",
    "password",
    "password1",
    "placeholder",
    "qwerty",
    "replace-me",
    "root",
    "sample",
    "secret",
    "secret-key",
    "secret_key",
    "secretkey",
    "sk",
    "sk-",
    "sk-1234",
    "sk-1234567890",
    "sk-123456",
    "sk-dummy",
    "sk-example",
    "sk-foo",
    "sk-key",
    "sk-none",
    "sk-placeholder",
    "sk-sluicegate",
    "sk-test",
    "sk-xxx",
    "sk-xxxx",
    "sluicegate",
    "sluicegate-key",
    "string",
    "test",
    "test-key",
    "test1",
    "test123",
    "test_key",
    "testing",
    "testkey",
    "token",
    "user",
    "web-app",
    "x",
    "xxx",
    "xxxx",
    "your-api-key",
    "your-key",
    "your_api_key",
    "your_key",
];

/// Whether it is the hash of a word that anybody can guess, such as an example's.
pub fn is_well_known(hash: &[u8; 32]) -> bool {
    let same = |word: &&str| {
        let with_newline = format!("{word}\n");
        [word.as_bytes(), with_newline.as_bytes()]
            .into_iter()
            .any(|word| Sha256::digest(word).as_slice() == hash)
    };
    WELL_KNOWN.iter().any(same)
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
    let section = reader.section(field, schema::KEY_LIMITS);
    KeyLimitsConfig {
        requests: read_rate(reader, &section, "requests"),
        tokens: read_rate(reader, &section, "tokens"),
        streams: reader.setting(&section, "streams", None, |text| {
            unit::parse_count(text).map(Some)
        }),
    }
}
