//! New API keys.

use secrecy::SecretString;

use super::hash;

/// The beginning of every key, so that scanners recognize a leaked one.
const KEY_PREFIX: &str = "sk-sg-";

/// Random characters after the prefix, of 62 kinds each: 238 bits.
const LENGTH: usize = 40;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A new random key.
pub struct NewKey {
    /// Only for the client.
    pub key: SecretString,
    /// For the config.
    pub sha256: [u8; 32],
}

/// Generates a key.
///
/// # Errors
/// The operating system provides no randomness.
pub fn generate() -> Result<NewKey, getrandom::Error> {
    let mut key = String::with_capacity(KEY_PREFIX.len() + LENGTH);
    key.push_str(KEY_PREFIX);
    let mut bytes = [0; 64];
    while key.len() < KEY_PREFIX.len() + LENGTH {
        getrandom::fill(&mut bytes)?;
        let missing = KEY_PREFIX.len() + LENGTH - key.len();
        key.extend(bytes.iter().filter_map(|byte| letter(*byte)).take(missing));
    }
    Ok(NewKey {
        sha256: hash(&key),
        key: SecretString::from(key),
    })
}

/// Skips the bytes from the last multiple of 62 on: they would make some letters likelier than
/// others.
fn letter(byte: u8) -> Option<char> {
    const FAIR: usize = 256 - 256 % ALPHABET.len();
    let byte = usize::from(byte);
    (byte < FAIR).then(|| char::from(ALPHABET[byte % ALPHABET.len()]))
}
