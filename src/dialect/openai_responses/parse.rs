//! The body of `POST /v1/responses`.
//!
//! An upstream of the same protocol gets the client's own body. Parsing checks the body and makes
//! the request for upstreams of other protocols.

use bytes::Bytes;
use serde_json::{Value, json};

use super::WIRE;
use super::input::Conversation;
use super::response::is_gateway_id;
use super::tools::{ToolParser, ToolTable, adds_tools};
use crate::dialect::field::{self, Field, NativeOnly};
use crate::model::{Error, Reasoning, Request, ResponseFormat};

/// What a vendor stores between requests or runs in the background: no other protocol has it.
const INDISPENSABLE: [&str; 4] = [
    "background",
    "conversation",
    "previous_response_id",
    "prompt",
];

/// Members whose words are in the rest of the request, or that bound its answer. A stream of this
/// protocol always has its usage, whatever `stream_options` says.
const OWN: [&str; 9] = [
    "input",
    "instructions",
    "max_output_tokens",
    "model",
    "prompt",
    "stream",
    "stream_options",
    "text",
    "tools",
];

/// Settings that are parsed.
const SETTINGS: [&str; 7] = [
    "parallel_tool_calls",
    "reasoning",
    "safety_identifier",
    "temperature",
    "tool_choice",
    "top_p",
    "user",
];

pub(super) fn request(body: &Bytes) -> Result<Request, Error> {
    let mut value = field::parse_body(body)?;
    let (mut request, native_only) = parse_fields(&Field::body(&value))?;
    let unchanged = !remove_gateway_ids(&mut value);
    let body = Some(body).filter(|_| unchanged);
    request.native_fields = Some(field::native_fields(
        WIRE,
        body,
        value,
        &OWN,
        &SETTINGS,
        native_only,
    )?);
    Ok(request)
}

/// The request, and its parts that no other protocol can express.
fn parse_fields(body: &Field<'_>) -> Result<(Request, NativeOnly), Error> {
    let stored = INDISPENSABLE.iter().filter_map(|name| body.get(name));
    let stored = stored.filter(|field| *field.value != Value::Bool(false));
    let mut native_only = NativeOnly {
        fields: stored.map(|field| field.to_string()).collect(),
        ..NativeOnly::default()
    };
    let table = ToolTable::new(body.members()?);
    let mut conversation = Conversation::new(&table);
    if let Some(instructions) = body.get("instructions") {
        conversation.instructions(&instructions)?;
    }
    match body.get("input") {
        // The vendor has stored what came before.
        Some(input) if *input.value == json!([]) && !native_only.fields.is_empty() => {}
        Some(input) => conversation.parse_input(&input)?,
        // The vendor has stored it.
        None if !native_only.fields.is_empty() => {}
        None => {
            body.require("input")?;
        }
    }
    native_only.append(conversation.native_only);
    let limit = body.get("max_output_tokens").map(|limit| limit.count());
    let user = body.text_of("user")?;
    let mut request = Request {
        model: body.required_name("model")?,
        messages: conversation.messages,
        max_tokens: limit.transpose()?,
        temperature: body.number_of("temperature")?,
        top_p: body.number_of("top_p")?,
        parallel_tool_calls: body.bool_of("parallel_tool_calls")?,
        response_format: response_format(body)?,
        user: user.or(body.text_of("safety_identifier")?),
        stream: body.bool_of("stream")?.unwrap_or(false),
        ..Request::default()
    };
    parse_tools(body, &table, &mut request, &mut native_only)?;
    if let Some(reasoning) = body.get("reasoning") {
        request.reasoning = reasoning.text_of("effort")?.map(|effort| Reasoning {
            effort: Some(effort),
            // Codex sends an effort with every request, whatever the model.
            is_default: body.get("client_metadata").is_some(),
            ..Reasoning::default()
        });
    }
    Ok((request, native_only))
}

/// The tools, those that a search found included, and the choice of one.
fn parse_tools(
    body: &Field<'_>,
    table: &ToolTable,
    request: &mut Request,
    native_only: &mut NativeOnly,
) -> Result<(), Error> {
    let mut parser = ToolParser::new(table);
    if let Some(tools) = body.get("tools") {
        parser.parse(&tools, None)?;
    }
    if let Some(input) = body.get("input").filter(|input| input.value.is_array()) {
        for item in input.elements()?.filter(|item| adds_tools(item.value)) {
            if let Some(tools) = item.get("tools") {
                parser.parse(&tools, None)?;
            }
        }
    }
    if let Some(field) = body.get("tool_choice") {
        request.tool_choice = parser.choice(&field)?;
        if request.tool_choice.is_none() {
            native_only.add(&field);
        }
    }
    request.tools = parser.tools;
    native_only.append(parser.left_out);
    Ok(())
}

fn response_format(body: &Field<'_>) -> Result<Option<ResponseFormat>, Error> {
    let text = body.get("text");
    let Some(format) = text.as_ref().and_then(|text| text.get("format")) else {
        return Ok(None);
    };
    Ok(Some(match format.kind()? {
        "text" => ResponseFormat::Text,
        "json_object" => ResponseFormat::Json,
        "json_schema" => ResponseFormat::Schema {
            name: format.required_name("name")?,
            description: format.text_of("description")?,
            schema: format.require("schema")?.value.clone(),
            strict: format.bool_of("strict")?,
        },
        _ => return Err(format.invalid("`type` must be `text`, `json_object` or `json_schema`")),
    }))
}

/// Removes the ids that the gateway gave to earlier items, which a vendor would not find. Reasoning
/// that has neither a signature nor such an id is removed.
fn remove_gateway_ids(body: &mut Value) -> bool {
    let Some(Value::Array(items)) = body.get_mut("input") else {
        return false;
    };
    let mut removed = false;
    items.retain_mut(|item| {
        let is_ours = item["id"].as_str().is_some_and(is_gateway_id);
        if !is_ours || item["type"] == "item_reference" {
            return true;
        }
        if let Some(item) = item.as_object_mut() {
            item.shift_remove("id");
            removed = true;
        }
        item["type"] != "reasoning" || item["encrypted_content"].is_string()
    });
    removed
}
