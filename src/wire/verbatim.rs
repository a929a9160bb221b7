//! Requests that reach an upstream in the client's own words.

use std::collections::HashMap;

use http::HeaderMap;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::json::Members;
use super::merge;

/// What an upstream needs beside the body of a client of its own protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct VerbatimRequest {
    /// As in [`super::Outgoing`].
    pub path: &'static str,
    /// As in [`super::Outgoing`]; the client's own headers replace them.
    pub headers: HeaderMap,
    /// Members of the body that the gateway sets. An object is merged into the client's object.
    pub members: Vec<(&'static str, Value)>,
}

impl VerbatimRequest {
    /// The client's body with the gateway's members: all others stay as the client wrote them, in the
    /// client's order. Only the last one of duplicate members stays, which is the one that the gateway
    /// has checked. `None` if the body is not a JSON object.
    pub fn body(&self, client: &[u8]) -> Option<Vec<u8>> {
        let Members(members) = serde_json::from_slice(client).ok()?;
        let mut out = Vec::with_capacity(client.len() + 256);
        out.push(b'{');
        let positions = members.iter().enumerate();
        let last: HashMap<&str, usize> = positions.map(|(at, (name, _))| (&**name, at)).collect();
        for (at, (name, value)) in members.iter().enumerate() {
            if last.get(&**name) != Some(&at) {
                continue;
            }
            match self.members.iter().find(|(own, _)| own == name) {
                None => put_member(name, value.get(), &mut out),
                Some((_, own)) => put_member(name, &merged(value, own).to_string(), &mut out),
            }
        }
        for (name, value) in &self.members {
            if !last.contains_key(name) {
                put_member(name, &value.to_string(), &mut out);
            }
        }
        out.push(b'}');
        Some(out)
    }
}

fn put_member(name: &str, value: &str, out: &mut Vec<u8>) {
    if out.len() > 1 {
        out.push(b',');
    }
    out.extend_from_slice(Value::from(name).to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(value.as_bytes());
}

/// The gateway's value; its members are added to the client's object.
fn merged(client: &RawValue, own: &Value) -> Value {
    let Value::Object(own) = own else {
        return own.clone();
    };
    let client = serde_json::from_str::<Map<String, Value>>(client.get());
    let mut object = client.unwrap_or_default();
    merge(&mut object, own);
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(client: &str) -> Option<String> {
        let request = VerbatimRequest {
            path: "/x",
            headers: HeaderMap::new(),
            members: vec![
                ("model", json!("m-1")),
                ("stream", json!(true)),
                ("stream_options", json!({"include_usage": true})),
            ],
        };
        let body = request.body(client.as_bytes())?;
        Some(String::from_utf8(body).unwrap())
    }

    #[test]
    fn members_keep_their_order_and_form() {
        let client = r#"{ "z" : [1.0, 1e2,  12345678901234567890123], "model":"m",
            "\u0061":"\u00e9", "stream_options":{"other":1} , "stream": false,"t":1.10}"#;
        let sent = concat!(
            r#"{"z":[1.0, 1e2,  12345678901234567890123],"model":"m-1","a":"\u00e9","#,
            r#""stream_options":{"other":1,"include_usage":true},"stream":true,"t":1.10}"#
        );
        assert_eq!(body(client).as_deref(), Some(sent));
    }

    #[test]
    fn members_of_the_gateway_are_added() {
        let sent = r#"{"model":"m-1","stream":true,"stream_options":{"include_usage":true}}"#;
        assert_eq!(body("{}").as_deref(), Some(sent));
        let sent = r#"{"stream_options":{"include_usage":true},"model":"m-1","stream":true}"#;
        assert_eq!(body(r#"{"stream_options":null}"#).as_deref(), Some(sent));
        assert_eq!(body("[]"), None);
    }

    #[test]
    fn the_last_of_duplicate_members_is_sent() {
        let sent = body(r#"{"max_tokens":9,"model":"a","max_tokens":1,"model":"b"}"#).unwrap();
        assert!(
            sent.starts_with(r#"{"max_tokens":1,"model":"m-1","#),
            "{sent}"
        );
    }
}
