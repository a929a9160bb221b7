//! Frames that differ from the one before them in nothing but their text, as most of an answer's
//! tokens do. Such a frame is known without being parsed.
//!
//! It is an exact reading and no guess. Both frames are one JSON text up to the opening quote of a
//! string and from its closing quote on, and what stands between ends no string, escapes nothing and
//! is no control character (RFC 8259, section 7): so it is that string, and everything else is as it
//! was. A decoder that [`crate::wire::Decoder::repeats`] would say the new string and nothing else.

use crate::framing::Frame;
use crate::model::Event;

/// How many frames in a row may be no repetition before nothing is looked for any more.
const PATIENCE: u8 = 8;

/// The last frame, if it said one text.
#[derive(Default)]
pub(super) struct Template {
    kind: Option<Kind>,
    name: String,
    /// Up to the text's opening quote, and from its closing quote on.
    before: String,
    after: String,
    /// How many frames there were since one was a repetition.
    misses: u8,
}

/// What a frame said, as it says it.
#[derive(Default)]
pub(super) enum Said {
    #[default]
    Nothing,
    /// A text that stands in the frame's data from here to there.
    One(Kind, usize, usize),
    More,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Reasoning,
}

impl Template {
    /// What `frame` says, if it is a repetition.
    pub(super) fn read<'a>(&mut self, frame: &Frame<'a>) -> Option<Event<'a>> {
        let kind = self.kind?;
        let text = frame.data.strip_prefix(self.before.as_str())?;
        let text = text.strip_suffix(self.after.as_str())?;
        if text.is_empty() || !is_plain(text) || frame.name != self.name || frame.failure {
            return None;
        }
        self.misses = 0;
        Some(match kind {
            Kind::Text => Event::Text(text),
            Kind::Reasoning => Event::Reasoning(text),
        })
    }

    /// A frame was parsed, and this is what it said. Whatever it was, it may have changed what the
    /// one before it would say now.
    pub(super) fn learn(&mut self, frame: &Frame<'_>, said: &Said) {
        self.kind = None;
        let &Said::One(kind, begin, end) = said else {
            return;
        };
        if self.misses == PATIENCE {
            return;
        }
        self.misses += 1;
        let (Some(before), Some(after)) = (frame.data.get(..begin), frame.data.get(end..)) else {
            return;
        };
        if before.ends_with('"') && after.starts_with('"') {
            replace(&mut self.name, frame.name);
            replace(&mut self.before, before);
            replace(&mut self.after, after);
            self.kind = Some(kind);
        }
    }
}

impl Said {
    /// One more event of the frame with this data.
    pub(super) fn and(&mut self, event: &Event<'_>, data: &str) {
        let (kind, text) = match *event {
            Event::Text(text) => (Kind::Text, text),
            Event::Reasoning(text) => (Kind::Reasoning, text),
            _ => return *self = Self::More,
        };
        // A text that was unescaped lies elsewhere.
        let begin = text.as_ptr().addr().checked_sub(data.as_ptr().addr());
        let place = begin.map(|begin| (begin, begin + text.len()));
        *self = match (&self, place) {
            (Self::Nothing, Some((begin, end))) if !text.is_empty() && end <= data.len() => {
                Self::One(kind, begin, end)
            }
            _ => Self::More,
        };
    }
}

/// Whether a JSON string with these letters in it is these letters.
fn is_plain(text: &str) -> bool {
    let special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // Without a way out in between, so that many bytes are looked at at once.
    !text
        .bytes()
        .fold(false, |found, byte| found | special(byte))
}

fn replace(kept: &mut String, new: &str) {
    kept.clear();
    kept.push_str(new);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(data: &str, text: &str) -> Said {
        let begin = data.find(text).unwrap();
        let mut said = Said::default();
        said.and(&Event::Text(&data[begin..begin + text.len()]), data);
        said
    }

    #[test]
    fn only_what_differs_in_its_text_alone_is_a_repetition() {
        let data = r#"{"n":1,"text":"one","more":null}"#;
        let mut template = Template::default();
        template.learn(&Frame::new("delta", data), &said(data, "one"));
        for text in ["two", " ", "naïve 你好 🚀", "}", "null", "\u{7f}"] {
            let data = data.replace("one", text);
            let frame = Frame::new("delta", &data);
            assert_eq!(template.read(&frame), Some(Event::Text(text)));
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
            assert_eq!(template.read(&Frame::new("delta", other)), None, "{other}");
        }
        let again = data.replace("one", "two");
        assert_eq!(template.read(&Frame::new("other", &again)), None);
        // What was read in between may have changed what it would say.
        template.learn(&Frame::new("stop", "{}"), &Said::Nothing);
        assert_eq!(template.read(&Frame::new("delta", &again)), None);
    }

    #[test]
    fn what_says_more_than_a_text_of_its_own_is_no_template() {
        let data = r#"{"text":"one"}"#;
        let frame = Frame::new("", data);
        let mut twice = said(data, "one");
        twice.and(&Event::Text(&data[9..12]), data);
        let mut elsewhere = Said::default();
        elsewhere.and(&Event::Text(&String::from("one")), data);
        let mut refusal = Said::default();
        refusal.and(&Event::Refusal(&data[9..12]), data);
        let unquoted = Said::One(Kind::Text, 8, 12);
        for said in [Said::Nothing, twice, elsewhere, refusal, unquoted] {
            let mut template = Template::default();
            template.learn(&frame, &said);
            assert_eq!(template.read(&frame), None);
        }
    }

    #[test]
    fn a_stream_that_never_repeats_is_not_copied_for_ever() {
        let mut template = Template::default();
        let mut learn = |number: usize| {
            let data = format!(r#"{{"n":{number},"text":"one"}}"#);
            template.learn(&Frame::new("", &data), &said(&data, "one"));
            template.read(&Frame::new("", &data)).is_some()
        };
        assert!((0..100).all(&mut learn));
        let mut template = Template::default();
        for number in 0..100 {
            let data = format!(r#"{{"n":{number},"text":"one"}}"#);
            let frame = Frame::new("", &data);
            assert_eq!(template.read(&frame), None);
            template.learn(&frame, &said(&data, "one"));
        }
        assert_eq!(template.kind, None);
    }
}
