//! Decodes frames that differ from the previous one only in their text, without parsing them. Most
//! tokens of an answer are such frames.
//!
//! The result is exact and not a guess. Both frames are the same JSON text up to the opening quote
//! of a string and from its closing quote on. The bytes between end no string and are no control
//! characters (RFC 8259, section 7). So they are that string, and everything else is unchanged. A text
//! with escapes is unescaped by the JSON reader that the decoders use. The values of [keys that no decoder reads](crate::wire::Decoder::ignored_keys) may
//! differ in the same way, or as whole numbers (section 6). The decoder must then emit the same
//! event; that is the law of [`crate::wire::Decoder`].

use memchr::{memchr, memchr2};
use serde::Deserialize as _;

use crate::framing::Frame;
use crate::model::Event;

/// After this many frames in a row that were no repetition, no template is kept any more.
const MAX_MISSES: u8 = 8;

/// The most bytes around a text. Longer frames are rare, and copying them is not worth its cost.
const MAX_SIZE: usize = 4 * 1024;

/// The last frame, if it contained exactly one text.
#[derive(Default)]
pub(super) struct Template {
    kind: Option<TextKind>,
    name: String,
    /// The fixed parts of the frame, one after another.
    constant: String,
    /// Where each fixed part ends in `constant`, and what kind of gap follows it. The last fixed part
    /// follows the last gap.
    variables: Vec<(usize, Variable)>,
    /// Frames since the last repetition.
    misses: u8,
    /// The last text that had escapes.
    unescaped: String,
}

/// What may differ between two fixed parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    Text,
    /// The content of a string that no decoder reads.
    String,
    /// A whole number that no decoder reads.
    Number,
}

/// What a frame contained, as far as a template needs to know.
#[derive(Default)]
pub(super) enum Emitted {
    #[default]
    Nothing,
    /// One text, at this range of the frame's data.
    One(TextKind, usize, usize),
    More,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextKind {
    Text,
    Reasoning,
}

impl Template {
    /// Decodes `frame` if it repeats the template.
    pub(super) fn decode<'a>(&'a mut self, frame: &Frame<'a>) -> Option<Event<'a>> {
        let kind = self.kind?;
        let (mut rest, mut begin, mut content) = (frame.data, 0, "");
        let mut has_escapes = false;
        for &(end, gap) in &self.variables {
            rest = rest.strip_prefix(&self.constant[begin..end])?;
            begin = end;
            let length = match (gap.length(rest), gap) {
                (Some(length), _) => length,
                (None, Variable::Text) => {
                    has_escapes = true;
                    escaped_length(rest)?
                }
                (None, _) => return None,
            };
            if gap == Variable::Text {
                content = &rest[..length];
            }
            rest = &rest[length..];
        }
        if rest != &self.constant[begin..] || !is_named(frame, &self.name) || frame.failure {
            return None;
        }
        if has_escapes {
            content = unescape(frame.data, content, &mut self.unescaped)?;
        }
        self.misses = 0;
        Some(match kind {
            TextKind::Text => Event::Text(content),
            TextKind::Reasoning => Event::Reasoning(content),
        })
    }

    /// Learns from a frame that was parsed. Any parsed frame invalidates the template before it,
    /// because it may have changed the decoder's state.
    pub(super) fn learn(&mut self, frame: &Frame<'_>, content: &Emitted, unread: &[&str]) {
        self.kind = None;
        let &Emitted::One(kind, begin, end) = content else {
            return;
        };
        if self.misses == MAX_MISSES || frame.data.len() - (end - begin) > MAX_SIZE {
            return;
        }
        self.misses += 1;
        let data = frame.data;
        let mut gaps = vec![(begin, end, Variable::Text)];
        gaps.extend(unread.iter().filter_map(|key| find_unread_value(data, key)));
        gaps.sort_unstable_by_key(|(begin, ..)| *begin);
        self.constant.clear();
        self.variables.clear();
        let mut last = 0;
        for (begin, end, gap) in gaps {
            let Some(fixed) = data.get(last..begin) else {
                return;
            };
            // The range is not a whole string, or its text is not written as itself.
            let whole = gap.length(&data[begin..]) == Some(end - begin);
            if !whole || (gap == Variable::Text && !fixed.ends_with('"')) {
                return;
            }
            self.constant.push_str(fixed);
            self.variables.push((self.constant.len(), gap));
            last = end;
        }
        self.constant.push_str(&data[last..]);
        self.name.clear();
        self.name.push_str(frame.name);
        self.kind = Some(kind);
    }
}

impl Variable {
    /// The length of the gap at the beginning of `rest`; `None` if that is not certain.
    fn length(self, rest: &str) -> Option<usize> {
        let bytes = rest.as_bytes();
        if self == Self::Number {
            let length = bytes
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            // A number can continue with a point or an exponent, and does not begin with a zero.
            let ends = matches!(bytes.get(length), Some(b',' | b'}'));
            let legal = length == 1 || !rest.starts_with('0');
            return (ends && legal && length > 0).then_some(length);
        }
        let length = memchr(b'"', bytes)?;
        // A decoder emits no event for an empty text.
        let some = self == Self::String || length > 0;
        (some && is_plain(&bytes[..length])).then_some(length)
    }
}

/// The length of a string's content up to its closing quote, if it has escapes.
fn escaped_length(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', &bytes[at..])?;
        if bytes[at] == b'"' {
            // A decoder emits no event for an empty text.
            return (at > 0).then_some(at);
        }
        // The byte behind a backslash ends no string.
        at = bytes.len().min(at + 2);
    }
}

/// Reads `content`, a part of `data` between two quotes. `None` if it is not the content of a string, or if
/// it needs a repair, which is the decoder's work.
fn unescape<'a>(data: &str, content: &str, unescaped: &'a mut String) -> Option<&'a str> {
    let begin = content.as_ptr().addr() - data.as_ptr().addr();
    let quoted = data.get(begin.checked_sub(1)?..begin + content.len() + 1)?;
    let mut reader = serde_json::Deserializer::from_str(quoted);
    String::deserialize_in_place(&mut reader, unescaped).ok()?;
    reader.end().ok()?;
    Some(unescaped)
}

/// The range of the value of the first key with this name. A quote within a string has a backslash
/// before it, so a match is a key or the end of one.
fn find_unread_value(data: &str, key: &str) -> Option<(usize, usize, Variable)> {
    let mut rest = data;
    while let Some(at) = rest.find(key) {
        let behind = &rest[at + key.len()..];
        if let (true, Some(value)) = (rest[..at].ends_with('"'), behind.strip_prefix("\":")) {
            let (value, gap) = match value.strip_prefix('"') {
                Some(inside) => (inside, Variable::String),
                None => (value, Variable::Number),
            };
            let begin = data.len() - value.len();
            return Some((begin, begin + gap.length(value)?, gap));
        }
        rest = behind;
    }
    None
}

impl Emitted {
    /// Adds an event of the frame with this data.
    pub(super) fn add(&mut self, event: &Event<'_>, data: &str) {
        let (kind, text) = match *event {
            Event::Text(text) => (TextKind::Text, text),
            Event::Reasoning(text) => (TextKind::Reasoning, text),
            _ => return *self = Self::More,
        };
        // A text that was unescaped is not part of the frame's data.
        let begin = text.as_ptr().addr().checked_sub(data.as_ptr().addr());
        let gap = begin.map(|begin| (begin, begin + text.len()));
        *self = match (&self, gap) {
            (Self::Nothing, Some((begin, end))) if !text.is_empty() && end <= data.len() => {
                Self::One(kind, begin, end)
            }
            _ => Self::More,
        };
    }
}

/// An empty name is not compared. Most frames have none, and loading from an empty `String`'s
/// dangling pointer costs some processors hundreds of cycles.
fn is_named(frame: &Frame<'_>, name: &str) -> bool {
    match name {
        "" => frame.name.is_empty(),
        name => frame.name == name,
    }
}

/// Whether a JSON string with these bytes in it stands for exactly these bytes.
fn is_plain(text: &[u8]) -> bool {
    let special = |byte: u8| byte < b' ' || byte == b'\\';
    // There is no early exit, so that the compiler can vectorize the loop.
    !text
        .iter()
        .fold(false, |found, byte| found | special(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(data: &str, text: &str) -> Emitted {
        let begin = data.find(text).unwrap();
        let mut emitted = Emitted::default();
        emitted.add(&Event::Text(&data[begin..begin + text.len()]), data);
        emitted
    }

    #[test]
    fn only_a_frame_that_differs_in_its_text_alone_is_a_repetition() {
        let data = r#"{"n":1,"text":"one","more":null}"#;
        let mut template = Template::default();
        template.learn(&Frame::new("delta", data), &content(data, "one"), &[]);
        for text in ["two", " ", "naïve 你好 🚀", "}", "null", "\u{7f}"] {
            let data = data.replace("one", text);
            let frame = Frame::new("delta", &data);
            assert_eq!(template.decode(&frame), Some(Event::Text(text)));
        }
        for (written, text) in [
            (r"\n\n", "\n\n"),
            (r#"\""#, "\""),
            (r#"say \"hi\""#, "say \"hi\""),
            (r"\\", "\\"),
            (r"\/\b\f\r\t", "/\u{8}\u{c}\r\t"),
            (r"caf\u00e9 \ud83d\ude80", "café 🚀"),
            (r"\u0000", "\0"),
        ] {
            let data = data.replace("one", written);
            let frame = Frame::new("delta", &data);
            assert_eq!(template.decode(&frame), Some(Event::Text(text)));
        }
        for other in [
            r#"{"n":2,"text":"two","more":null}"#,
            r#"{"n":1,"text":"two","more":0}"#,
            r#"{"n":1,"text":"","more":null}"#,
            r#"{"n":1,"text":"a","text":"b","more":null}"#,
            r#"{"n":1,"text":"a\","text":"b","more":null}"#,
            r#"{"n":1,"text":"a\\","text":"b","more":null}"#,
            r#"{"n":1,"text":"a\x","more":null}"#,
            r#"{"n":1,"text":"a\u12","more":null}"#,
            r#"{"n":1,"text":"\ud83d","more":null}"#,
            r#"{"n":1,"text":"\ude80\ud83d","more":null}"#,
            "{\"n\":1,\"text\":\"a\\n\tb\",\"more\":null}",
            r#"{"n":1,"text":"a\"#,
            r#"{"n":1,"text":"\","more":null}"#,
            "{\"n\":1,\"text\":\"a\tb\",\"more\":null}",
            r#"{"n":1,"text":","more":null}"#,
            r#"{"n":1,"text":"#,
            "",
        ] {
            assert_eq!(
                template.decode(&Frame::new("delta", other)),
                None,
                "{other}"
            );
        }
        let again = data.replace("one", "two");
        assert_eq!(template.decode(&Frame::new("other", &again)), None);
        // A frame in between may have changed the decoder's state.
        template.learn(&Frame::new("stop", "{}"), &Emitted::Nothing, &[]);
        assert_eq!(template.decode(&Frame::new("delta", &again)), None);
    }

    #[test]
    fn a_frame_with_more_than_one_text_is_no_template() {
        let data = r#"{"text":"one"}"#;
        let frame = Frame::new("", data);
        let mut twice = content(data, "one");
        twice.add(&Event::Text(&data[9..12]), data);
        let mut elsewhere = Emitted::default();
        elsewhere.add(&Event::Text(&String::from("one")), data);
        let mut refusal = Emitted::default();
        refusal.add(&Event::Refusal(&data[9..12]), data);
        let unquoted = Emitted::One(TextKind::Text, 8, 12);
        let long = format!(r#"{{"text":"one","more":"{}"}}"#, "x".repeat(MAX_SIZE));
        let mut template = Template::default();
        template.learn(&Frame::new("", &long), &content(&long, "one"), &[]);
        assert_eq!(template.decode(&Frame::new("", &long)), None);
        for content in [Emitted::Nothing, twice, elsewhere, refusal, unquoted] {
            let mut template = Template::default();
            template.learn(&frame, &content, &[]);
            assert_eq!(template.decode(&frame), None);
        }
    }

    #[test]
    fn a_stream_without_repetitions_stops_being_copied() {
        let mut template = Template::default();
        let mut learn = |number: usize| {
            let data = format!(r#"{{"n":{number},"text":"one"}}"#);
            template.learn(&Frame::new("", &data), &content(&data, "one"), &[]);
            template.decode(&Frame::new("", &data)).is_some()
        };
        assert!((0..100).all(&mut learn));
        let mut template = Template::default();
        for number in 0..100 {
            let data = format!(r#"{{"n":{number},"text":"one"}}"#);
            let frame = Frame::new("", &data);
            assert_eq!(template.decode(&frame), None);
            template.learn(&frame, &content(&data, "one"), &[]);
        }
        assert_eq!(template.kind, None);
    }

    #[test]
    fn unread_values_may_differ() {
        let frame = |number: &str, text: &str, padding: &str| {
            format!(r#"{{"n":{number},"text":"{text}","p":"{padding}","x":1}}"#)
        };
        let data = frame("1", "one", "abc");
        let mut template = Template::default();
        template.learn(&Frame::new("", &data), &content(&data, "one"), &["p", "n"]);
        for (number, padding) in [("2", "abc"), ("0", ""), ("1234567", "a"), ("7", "n\u{7f}")] {
            let data = frame(number, "two", padding);
            let read = template.decode(&Frame::new("", &data));
            assert_eq!(read, Some(Event::Text("two")), "{data}");
        }
        for (number, padding) in [
            ("", "a"),
            ("01", "a"),
            ("1.5", "a"),
            ("1e3", "a"),
            ("-1", "a"),
            ("null", "a"),
            ("\"1\"", "a"),
            ("1", "a\\n"),
            ("1", "a\",\"b\":\"c"),
        ] {
            let data = frame(number, "two", padding);
            assert_eq!(template.decode(&Frame::new("", &data)), None, "{data}");
        }
        // A text that equals the key's name is not the key.
        let data = r#"{"text":"p","p":"abc"}"#;
        let mut template = Template::default();
        let mut one = Emitted::default();
        one.add(&Event::Text(&data[9..10]), data);
        template.learn(&Frame::new("", data), &one, &["p"]);
        let again = r#"{"text":"q","p":"d"}"#;
        let read = template.decode(&Frame::new("", again));
        assert_eq!(read, Some(Event::Text("q")));
    }
}
