//! JSON and numbers into a client's bytes.

use bytes::{BufMut, BytesMut};
use serde::Serialize;

/// `value` on one line: JSON escapes line ends, whatever the texts hold.
pub(super) fn put_json(value: &(impl Serialize + ?Sized), out: &mut BytesMut) {
    let written = serde_json::to_writer(out.writer(), value);
    debug_assert!(written.is_ok(), "a BytesMut takes any write");
}

/// `text` as a JSON string. Most tokens need no escape and are but copied.
pub(super) fn put_text(text: &str, out: &mut BytesMut) {
    // All of it is looked at: without a way out in between, many bytes at once.
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

/// What cannot stand for itself in a string: RFC 8259, section 7.
fn is_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// `number` in decimal.
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
