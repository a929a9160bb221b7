//! Log lines as JSON objects, for programs that read them.

use std::fmt::{self, Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The length of most lines of the access log, in bytes.
const USUAL_LENGTH: usize = 1024;

/// One object a line: `timestamp`, `level`, the event's fields and `target`, as
/// [`tracing_subscriber::fmt::format::Json`] writes it with flattened fields. The access log has a line for
/// every request, and that form took a tenth of what a small request costs. Spans are left out: only
/// dependencies have some, at the level `debug`.
#[derive(Debug, Clone, Copy)]
pub struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::with_capacity(USUAL_LENGTH);
        line.push_str(r#"{"timestamp":""#);
        SystemTime.format_time(&mut Writer::new(&mut line))?;
        let metadata = event.metadata();
        write!(line, r#"","level":"{}""#, metadata.level())?;
        event.record(&mut Fields(&mut line));
        line.push_str(r#","target":"#);
        push_text(&mut line, metadata.target());
        line.push_str("}\n");
        writer.write_str(&line)
    }
}

/// Appends the fields of an event.
struct Fields<'a>(&'a mut String);

impl Fields<'_> {
    fn push(&mut self, field: &Field, value: impl fmt::Display) {
        self.push_name(field);
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{value}");
    }

    fn push_name(&mut self, field: &Field) {
        self.0.push(',');
        push_text(self.0, field.name());
        self.0.push(':');
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_name(field);
        push_text(self.0, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for what is not finite: this writes null.
        self.push(field, serde_json::Value::from(value));
    }
}

/// Appends `text` as a JSON string.
fn push_text(line: &mut String, text: &str) {
    let is_escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // A loop without an early exit lets the compiler test many bytes at a time.
    let is_plain = !text
        .bytes()
        .fold(false, |found, byte| found | is_escaped(byte));
    if is_plain {
        line.push('"');
        line.push_str(text);
        line.push('"');
    } else {
        // Writing to a string cannot fail.
        let _ = write!(line, "{}", serde_json::Value::from(text));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    impl Written {
        /// The lines without their times.
        fn lines(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            let lines = String::from_utf8(bytes).unwrap();
            let lines = lines.split_inclusive('\n').map(|line| {
                let (begin, rest) = line.split_once(r#""timestamp":""#).unwrap();
                let (time, rest) = rest.split_once('"').unwrap();
                assert!(time.ends_with('Z'), "{time}");
                format!("{begin}{rest}")
            });
            lines.collect()
        }
    }

    fn write_events() {
        let nothing: Option<&str> = None;
        let error: Box<dyn std::error::Error> = "it \"broke\"".into();
        tracing::info!(key = "a", nothing, some = Some(3_u64), "request ended");
        tracing::warn!(quoted = "a\"b\\c\nd\u{1}é漢🚀", "a \"message\"\twith {}", 1);
        tracing::error!(error, shown = %"x\ny", debug = ?Some("z"), yes = true, no = false);
        tracing::info!(
            low = -5_i64,
            long = i64::MIN,
            high = u64::MAX,
            wide = u128::MAX
        );
        tracing::info!(
            half = 0.5,
            whole = 2.0,
            tiny = 1e-9,
            not = f64::NAN,
            no = f64::INFINITY
        );
        tracing::info!(target: "a::target", one = 1, "plain");
    }

    #[test]
    fn a_line_is_the_one_that_the_library_writes() {
        let (own, library) = (Written::default(), Written::default());
        let layer = tracing_subscriber::fmt::layer().with_writer(own.clone());
        let registry = tracing_subscriber::registry().with(layer.event_format(JsonLines));
        tracing::subscriber::with_default(registry, write_events);
        let layer = tracing_subscriber::fmt::layer().with_writer(library.clone());
        let registry = tracing_subscriber::registry().with(layer.json().flatten_event(true));
        tracing::subscriber::with_default(registry, write_events);
        let lines = library.lines();
        assert_eq!(lines.len(), 6);
        assert_eq!(own.lines(), lines);
    }
}
