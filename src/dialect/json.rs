//! Writes JSON and numbers into a client's bytes.

use bytes::{BufMut, BytesMut};
use serde::Serialize;

/// Writes `value` on one line: JSON escapes the line ends in strings.
pub(super) fn put_json(value: &(impl Serialize + ?Sized), out: &mut BytesMut) {
    let written = serde_json::to_writer(out.writer(), value);
    debug_assert!(written.is_ok(), "a BytesMut takes any write");
}

/// Writes `text` as a JSON string. Most tokens need no escape and are only copied.
pub(super) fn put_text(text: &str, out: &mut BytesMut) {
    // A loop without an early exit lets the compiler test many bytes at a time.
    if text
        .bytes()
        .fold(false, |found, byte| found | is_escaped(byte))
    {
        return put_json(text, out);
    }
    out.reserve(text.len() + 2);
    out.put_u8(b'"');
    out.put_slice(text.as_bytes());
    out.put_u8(b'"');
}

/// Whether a byte must be escaped in a string: RFC 8259, section 7.
fn is_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Writes `number` in decimal.
pub(super) fn put_number(number: u64, out: &mut BytesMut) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    let mut rest = number;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[start..]);
}
