//! The trace that a client's request belongs to: <https://www.w3.org/TR/trace-context/>.

use http::{HeaderMap, HeaderValue};

/// The client's trace headers. They go upstream as they are where the gateway writes no traces.
#[derive(Debug, Clone, Default)]
pub struct TraceContext {
    pub traceparent: Option<HeaderValue>,
    pub tracestate: Option<HeaderValue>,
}

impl TraceContext {
    pub fn from_headers(headers: &HeaderMap) -> Self {
        Self {
            traceparent: headers.get("traceparent").cloned(),
            tracestate: headers.get("tracestate").cloned(),
        }
    }

    /// The trace's id, 32 hexadecimal digits. `None` if there is no valid one.
    pub fn trace_id(&self) -> Option<&str> {
        let text = self.traceparent.as_ref()?.to_str().ok()?;
        let id = text.get(3..35)?;
        let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let is_separated =
            text.as_bytes().get(2) == Some(&b'-') && text.as_bytes().get(35) == Some(&b'-');
        let is_valid = is_separated && id.bytes().all(is_hex) && id.bytes().any(|c| c != b'0');
        is_valid.then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_ids_are_read() {
        let id = |text: &'static str| {
            let context = TraceContext {
                traceparent: Some(HeaderValue::from_static(text)),
                tracestate: None,
            };
            context.trace_id().map(str::to_owned)
        };
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(
            id(valid).as_deref(),
            Some("0af7651916cd43dd8448eb211c80319c")
        );
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "000af7651916cd43dd8448eb211c80319c--b7ad6b7169203331-01",
        ] {
            assert_eq!(id(wrong), None, "{wrong}");
        }
    }
}
