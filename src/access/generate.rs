//! New API keys.

use secrecy::SecretString;

use super::hash;

/// What every key begins with, so that it is known where it turns up.
const KEY_PREFIX: &str = "sk-sg-";

/// Random characters after the mark, of 62 kinds each: 238 bits.
const LENGTH: usize = 40;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A key that nobody had before.
pub struct NewKey {
    /// For the client alone.
    pub key: SecretString,
    /// For the config.
    pub sha256: [u8; 32],
}

/// Makes a key.
///
/// # Errors
/// The operating system has no randomness to give.
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

/// Passes over the bytes above the last multiple of 62: taken too, they would make some letters
/// likelier than others.
fn letter(byte: u8) -> Option<char> {
    const FAIR: usize = 256 - 256 % ALPHABET.len();
    let byte = usize::from(byte);
    (byte < FAIR).then(|| char::from(ALPHABET[byte % ALPHABET.len()]))
}
