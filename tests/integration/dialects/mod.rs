//! The dialects of vendors' protocols: their parsed requests, and the output of their encoders, decoded
//! by the wire of the same protocol.

mod adapted;
mod anthropic;
mod legacy_functions;
mod mistakes;
mod openai_chat;
mod openai_responses;
mod round_trip;
mod several_answers;
mod signatures;
mod ui_messages;
mod variants;

use serde_json::Value;
use sluicegate::dialect::{self, Dialect};
use sluicegate::model::{Error, ErrorCode, ReasoningSigner, Request, Vendor};
use sluicegate::wire::{self, Adapted, TargetSettings};

fn dialect(path: &str) -> &'static dyn Dialect {
    let found = dialect::at(path);
    assert_ne!(found.name(), "native", "no dialect at {path}");
    found
}

fn parse(path: &str, body: &Value) -> Result<Request, Error> {
    dialect(path).parse(&body.to_string().into())
}

/// The body that an upstream of that wire gets.
fn sent(wire: &str, request: &Request) -> Result<Value, Error> {
    sent_to(wire, "their-model", request).map(|(body, _)| body)
}

/// The body that an upstream of that wire gets for `model`, and the fields that were changed.
fn sent_to(wire: &str, model: &str, request: &Request) -> Result<(Value, Vec<String>), Error> {
    let for_wire = signer(wire).verify(request.for_wire(wire)?);
    let found = wire::by_name(wire).expect("a wire of that name");
    let (vendor, settings) = (Vendor::default(), TargetSettings::default());
    let adapted = Adapted::new(request, for_wire, found, model, &vendor, settings);
    let outgoing = found.request(&adapted.request, model, &vendor)?;
    Ok((outgoing.body, adapted.changes))
}

/// Of the only vendor of that wire.
fn signer(wire: &str) -> ReasoningSigner {
    let wire = wire::by_name(wire).expect("a wire of that name");
    ReasoningSigner::new(wire.name(), "vendor")
}

/// Asserts that a request is refused with a message that begins with the field.
fn refused(path: &str, body: &Value, field: &str) {
    let error = parse(path, body).expect_err("a request that is wrong");
    assert_eq!(error.code(), ErrorCode::InvalidRequest);
    let words = error.message();
    assert!(words.starts_with(&format!("{field}: ")), "{field}: {words}");
}

/// `body` with a member set or, where the value is null, taken out.
fn with(body: &Value, name: &str, value: Value) -> Value {
    let mut body = body.clone();
    let members = body.as_object_mut().expect("an object");
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
    body
}
