//! Frames that differ from the one before them in nothing that matters but their text, as most of an
//! answer's tokens do. Such a frame is known without being parsed.
//!
//! It is an exact reading and no guess. Both frames are one JSON text up to the opening quote of a
//! string and from its closing quote on, and what stands between ends no string, escapes nothing and
//! is no control character (RFC 8259, section 7): so it is that string, and everything else is as it
//! was. The values of [keys that nobody reads](crate::wire::Decoder::ignored_keys) may differ in the
//! same way, or as whole numbers (section 6). What the decoder would say then is its law.

use memchr::memchr;

use crate::framing::Frame;
use crate::model::Event;

/// How many frames in a row may be no repetition before nothing is looked for any more.
const MAX_MISSES: u8 = 8;

/// How much may stand around a text, in bytes: what is longer is rare, and is not kept for a stream.
const MAX_SIZE: usize = 4 * 1024;

/// The last frame, if it said one text.
#[derive(Default)]
pub(super) struct Template {
    kind: Option<TextKind>,
    name: String,
    /// What is the same, up to the first place that differs, from there to the next, and so on.
    constant: String,
    /// Where in it they end, and what differs there; behind the last one comes the rest.
    variables: Vec<(usize, Variable)>,
    /// How many frames there were since one was a repetition.
    misses: u8,
}

/// What stands between what is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    Text,
    /// The inside of a string that nobody reads.
    String,
    /// A whole number that nobody reads.
    Number,
}

/// What a frame said, as it says it.
#[derive(Default)]
pub(super) enum Emitted {
    #[default]
    Nothing,
    /// A text that stands in the frame's data from here to there.
    One(TextKind, usize, usize),
    More,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextKind {
    Text,
    Reasoning,
}

impl Template {
    /// What `frame` says, if it is a repetition.
    pub(super) fn decode<'a>(&mut self, frame: &Frame<'a>) -> Option<Event<'a>> {
        let kind = self.kind?;
        let (mut rest, mut begin, mut content) = (frame.data, 0, "");
        for &(end, gap) in &self.variables {
            rest = rest.strip_prefix(&self.constant[begin..end])?;
            begin = end;
            let length = gap.length(rest)?;
            if gap == Variable::Text {
                content = &rest[..length];
            }
            rest = &rest[length..];
        }
        if rest != &self.constant[begin..] || !is_named(frame, &self.name) || frame.failure {
            return None;
        }
        self.misses = 0;
        Some(match kind {
            TextKind::Text => Event::Text(content),
            TextKind::Reasoning => Event::Reasoning(content),
        })
    }

    /// A frame was parsed, and this is what it said. Whatever it was, it may have changed what the
    /// one before it would say now.
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
            // A text that is no whole string, or would not be read as itself.
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
    /// How much of `rest` it takes; nothing where that is not plainly to be seen.
    fn length(self, rest: &str) -> Option<usize> {
        let bytes = rest.as_bytes();
        if self == Self::Number {
            let length = bytes
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            // A number goes on with a point or an exponent, and begins with no zero.
            let ends = matches!(bytes.get(length), Some(b',' | b'}'));
            let legal = length == 1 || !rest.starts_with('0');
            return (ends && legal && length > 0).then_some(length);
        }
        let length = memchr(b'"', bytes)?;
        // An empty text says nothing.
        let some = self == Self::String || length > 0;
        (some && is_plain(&bytes[..length])).then_some(length)
    }
}

/// Where the value of the first such key begins and ends. A quote within a string has a backslash
/// before it: so this is a key, or the end of one.
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
    /// One more event of the frame with this data.
    pub(super) fn add(&mut self, event: &Event<'_>, data: &str) {
        let (kind, text) = match *event {
            Event::Text(text) => (TextKind::Text, text),
            Event::Reasoning(text) => (TextKind::Reasoning, text),
            _ => return *self = Self::More,
        };
        // A text that was unescaped lies elsewhere.
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

/// Most frames have no name. Then nothing is compared: some processors take hundreds of cycles to
/// load nothing from where an empty `String` says that it is, for no memory is there.
fn is_named(frame: &Frame<'_>, name: &str) -> bool {
    match name {
        "" => frame.name.is_empty(),
        name => frame.name == name,
    }
}

/// Whether a JSON string with these bytes in it is these bytes.
fn is_plain(text: &[u8]) -> bool {
    let special = |byte: u8| byte < b' ' || byte == b'\\';
    // Without a way out in between, so that many bytes are looked at at once.
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
    fn only_what_differs_in_its_text_alone_is_a_repetition() {
        let data = r#"{"n":1,"text":"one","more":null}"#;
        let mut template = Template::default();
        template.learn(&Frame::new("delta", data), &content(data, "one"), &[]);
        for text in ["two", " ", "naïve 你好 🚀", "}", "null", "\u{7f}"] {
            let data = data.replace("one", text);
            let frame = Frame::new("delta", &data);
            assert_eq!(template.decode(&frame), Some(Event::Text(text)));
        }
        for other in [
            r#"{"n":2,"text":"two","more":null}"#,
            r#"{"n":1,"text":"two","more":0}"#,
            r#"{"n":1,"text":"","more":null}"#,
            r#"{"n":1,"text":"a\n","more":null}"#,
            r#"{"n":1,"text":"a","text":"b","more":null}"#,
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
        // What was read in between may have changed what it would say.
        template.learn(&Frame::new("stop", "{}"), &Emitted::Nothing, &[]);
        assert_eq!(template.decode(&Frame::new("delta", &again)), None);
    }

    #[test]
    fn what_says_more_than_a_text_of_its_own_is_no_template() {
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
    fn a_stream_that_never_repeats_is_not_copied_for_ever() {
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
    fn what_nobody_reads_may_differ() {
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
        // A text that has the key's name in it is not the key.
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
