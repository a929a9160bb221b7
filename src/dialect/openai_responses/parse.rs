//! The body of `POST /v1/responses`.
//!
//! An upstream of the same protocol gets the client's own body. Parsing checks the body and makes
//! the request for upstreams of other protocols.

use bytes::Bytes;
use serde_json::Value;

use super::WIRE;
use super::input::Conversation;
use super::response::is_gateway_id;
use crate::dialect::field::{self, Field, NativeOnly};
use crate::model::{Error, Reasoning, Request, ResponseFormat, Tool, ToolChoice};

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

pub(super) fn request(body: &Bytes) -> Result<Request, Error> {
    let mut value = field::parse_body(body)?;
    let (mut request, native_only) = parse_fields(&Field::body(&value))?;
    let unchanged = !remove_gateway_ids(&mut value);
    let body = Some(body).filter(|_| unchanged);
    request.native_fields = Some(field::native_fields(WIRE, body, value, &OWN, native_only)?);
    Ok(request)
}

/// The request, and its parts that no other protocol can express.
fn parse_fields(body: &Field<'_>) -> Result<(Request, NativeOnly), Error> {
    let stored = INDISPENSABLE.iter().filter_map(|name| body.get(name));
    let stored = stored.filter(|field| *field.value != Value::Bool(false));
    let mut native_only = NativeOnly {
        fields: stored.map(|field| field.to_string()).collect(),
        bytes: 0,
    };
    let mut conversation = Conversation::default();
    if let Some(instructions) = body.get("instructions") {
        conversation.instructions(&instructions)?;
    }
    match body.get("input") {
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
        tool_choice: tool_choice(body, &mut native_only)?,
        parallel_tool_calls: body.bool_of("parallel_tool_calls")?,
        response_format: response_format(body)?,
        user: user.or(body.text_of("safety_identifier")?),
        stream: body.bool_of("stream")?.unwrap_or(false),
        ..Request::default()
    };
    if let Some(tools) = body.get("tools") {
        for field in tools.elements()? {
            match tool(&field)? {
                Some(tool) => request.tools.push(tool),
                None => native_only.add(&field),
            }
        }
    }
    if let Some(reasoning) = body.get("reasoning") {
        request.reasoning = reasoning.text_of("effort")?.map(|effort| Reasoning {
            effort: Some(effort),
            max_tokens: None,
        });
    }
    Ok((request, native_only))
}

/// None for a tool that the vendor runs, or one whose input is free text.
fn tool(field: &Field<'_>) -> Result<Option<Tool>, Error> {
    if field.kind()? != "function" {
        return Ok(None);
    }
    let parameters = field.get("parameters");
    if let Some(parameters) = &parameters {
        parameters.members()?;
    }
    Ok(Some(Tool {
        name: field.required_name("name")?,
        description: field.text_of("description")?,
        parameters: parameters.map(|parameters| parameters.value.clone()),
        strict: field.bool_of("strict")?,
    }))
}

fn tool_choice(
    body: &Field<'_>,
    native_only: &mut NativeOnly,
) -> Result<Option<ToolChoice>, Error> {
    let Some(field) = body.get("tool_choice") else {
        return Ok(None);
    };
    if let Some(mode) = field.value.as_str() {
        return Ok(Some(match mode {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            _ => return Err(field.invalid("must be `auto`, `none`, `required` or an object")),
        }));
    }
    if field.kind()? == "function" {
        return Ok(Some(ToolChoice::Function(field.required_name("name")?)));
    }
    native_only.add(&field);
    Ok(None)
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
