//! A reader of Server-Sent Events that shares no code with the product: written from the HTML
//! standard (<https://html.spec.whatwg.org/multipage/server-sent-events.html>, section 9.2.6),
//! whole input at a time, with no care for speed.

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NaiveEvent {
    /// Empty where the standard says `message`.
    pub name: String,
    pub data: String,
    /// The last event id at the time.
    pub id: String,
}

/// The events that `bytes` dispatch. An event without its blank line is dropped, as the standard
/// says.
pub fn events(bytes: &[u8]) -> Vec<NaiveEvent> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut events = Vec::new();
    let (mut name, mut data, mut id) = (String::new(), String::new(), String::new());
    for line in lines(text) {
        if line.is_empty() {
            if let Some(data) = data.strip_suffix('\n') {
                events.push(NaiveEvent {
                    name: if name == "message" {
                        String::new()
                    } else {
                        name.clone()
                    },
                    data: data.to_owned(),
                    id: id.clone(),
                });
            }
            name.clear();
            data.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            // A comment has an empty field name; `retry` and the unknown say nothing here.
            _ => {}
        }
    }
    events
}

/// The lines that have an end: CRLF, LF or CR.
pub fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(['\r', '\n']) {
        lines.push(&rest[..end]);
        let long = rest[end..].starts_with("\r\n");
        rest = &rest[end + 1 + usize::from(long)..];
    }
    lines
}
