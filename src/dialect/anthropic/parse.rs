//! The body of `POST /v1/messages`.
//!
//! An upstream of the same protocol gets the client's own body, `cache_control` included. Parsing
//! checks the body and makes the request for upstreams of other protocols.

use bytes::Bytes;
use serde_json::Value;

use super::WIRE;
use super::content::{Turns, is_cached};
use super::shape::is_gateway_citation;
use crate::dialect::field::{self, Field, NativeOnly};
use crate::model::{Error, Reasoning, Request, ResponseFormat, Tool, ToolChoice};

/// Settings that change the answer and that only this protocol has.
const INDISPENSABLE: [&str; 2] = ["container", "mcp_servers"];

/// Settings that are parsed.
const SETTINGS: [&str; 6] = [
    "metadata",
    "stop_sequences",
    "temperature",
    "thinking",
    "tool_choice",
    "top_p",
];

/// Members whose words are in the rest of the request.
const OWN: [&str; 8] = [
    "max_tokens",
    "messages",
    "model",
    "output_config",
    "output_format",
    "stream",
    "system",
    "tools",
];

pub(super) fn request(body: &Bytes) -> Result<Request, Error> {
    parse(body, |body| {
        let bound = body.require("max_tokens")?;
        // It only fills the vendor's cache: see `native_only` below.
        match bound.value.as_u64() {
            Some(0) => Ok(None),
            _ => bound.count().map(Some),
        }
    })
}

/// The body of `POST /v1/messages/count_tokens`, which needs no bound.
pub(super) fn counted_request(body: &Bytes) -> Result<Request, Error> {
    parse(body, |_| Ok(None))
}

fn parse(
    body: &Bytes,
    bound: fn(&Field<'_>) -> Result<Option<u64>, Error>,
) -> Result<Request, Error> {
    let mut value = field::parse_body(body)?;
    let (mut request, native_only) = parse_fields(&Field::body(&value), bound)?;
    let unchanged = !remove_gateway_citations(&mut value);
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
fn parse_fields(
    body: &Field<'_>,
    bound: fn(&Field<'_>) -> Result<Option<u64>, Error>,
) -> Result<(Request, NativeOnly), Error> {
    let mut turns = Turns::default();
    if let Some(system) = body.get("system") {
        turns.system(&system)?;
    }
    let messages = body.require("messages")?;
    if messages.elements()?.next().is_none() {
        return Err(messages.invalid("must not be empty"));
    }
    for message in messages.elements()? {
        turns.add(&message)?;
    }
    let Turns {
        messages,
        mut native_only,
    } = turns;
    let mut request = Request {
        model: body.required_name("model")?,
        messages,
        max_tokens: bound(body)?,
        temperature: body.number_of("temperature")?,
        top_p: body.number_of("top_p")?,
        tool_choice: tool_choice(body)?,
        parallel_tool_calls: parallel_tool_calls(body)?,
        response_format: response_format(body)?,
        reasoning: reasoning(body)?,
        stream: body.bool_of("stream")?.unwrap_or(false),
        ..Request::default()
    };
    if let Some(sequences) = body.get("stop_sequences") {
        for sequence in sequences.elements()? {
            request.stop.push(sequence.text()?.to_owned());
        }
    }
    if let Some(tools) = body.get("tools") {
        for field in tools.elements()? {
            match tool(&field)? {
                Some(tool) => request.tools.push(tool),
                None if must_use(&field, &request) => native_only.add(&field),
                None => native_only.add_optional(&field),
            }
        }
    }
    if request.tool_choice == Some(ToolChoice::Required)
        && request.tools.is_empty()
        && let Some(choice) = body.get("tool_choice")
    {
        native_only.add(&choice);
    }
    if let Some(metadata) = body.get("metadata") {
        request.user = metadata.text_of("user_id")?;
    }
    if let Some(bound) = body.get("max_tokens").filter(|bound| *bound.value == 0) {
        native_only.add(&bound);
    }
    let special = INDISPENSABLE.iter().filter_map(|name| body.get(name));
    let special =
        special.filter(|field| field.value.as_array().is_none_or(|list| !list.is_empty()));
    native_only
        .fields
        .extend(special.map(|field| field.to_string()));
    Ok((request, native_only))
}

/// Whether the model must use a tool that only this protocol has. It may use the others, but need not.
fn must_use(tool: &Field<'_>, request: &Request) -> bool {
    let name = tool.value["name"].as_str();
    matches!(&request.tool_choice, Some(ToolChoice::Function(choice)) if Some(choice.as_str()) == name)
}

/// None for a tool that the vendor runs or describes.
fn tool(field: &Field<'_>) -> Result<Option<Tool>, Error> {
    let kind = field.text_of("type")?;
    if kind.is_some_and(|kind| kind != "custom") {
        return Ok(None);
    }
    let schema = field.require("input_schema")?;
    schema.members()?;
    Ok(Some(Tool {
        name: field.required_name("name")?,
        description: field.text_of("description")?,
        parameters: Some(schema.value.clone()),
        strict: field.bool_of("strict")?,
        cache_point: is_cached(field),
    }))
}

fn tool_choice(body: &Field<'_>) -> Result<Option<ToolChoice>, Error> {
    let Some(field) = body.get("tool_choice") else {
        return Ok(None);
    };
    Ok(Some(match field.kind()? {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Function(field.required_name("name")?),
        _ => return Err(field.invalid("`type` must be `auto`, `any`, `tool` or `none`")),
    }))
}

fn parallel_tool_calls(body: &Field<'_>) -> Result<Option<bool>, Error> {
    let Some(choice) = body.get("tool_choice") else {
        return Ok(None);
    };
    let disabled = choice.bool_of("disable_parallel_tool_use")?;
    Ok(disabled.map(|disabled| !disabled))
}

/// `output_config.format`, or `output_format`, its earlier name.
fn response_format(body: &Field<'_>) -> Result<Option<ResponseFormat>, Error> {
    let config = body.get("output_config");
    let format = config.as_ref().and_then(|config| config.get("format"));
    let Some(format) = format.or_else(|| body.get("output_format")) else {
        return Ok(None);
    };
    if format.kind()? != "json_schema" {
        return Err(format.invalid("`type` must be `json_schema`"));
    }
    Ok(Some(ResponseFormat::Schema {
        // The protocol has no name for a schema, and others require one.
        name: "output".to_owned(),
        description: None,
        schema: format.require("schema")?.value.clone(),
        strict: Some(true),
    }))
}

/// `thinking` and `output_config.effort`. Disabled thinking alone is left out, because upstreams that
/// cannot reason refuse any setting. Coding agents send an effort with every request, whatever the
/// model, so that it is a default.
fn reasoning(body: &Field<'_>) -> Result<Option<Reasoning>, Error> {
    let config = body.get("output_config");
    let mut reasoning = Reasoning {
        effort: match &config {
            Some(config) => config.text_of("effort")?,
            None => None,
        },
        is_default: true,
        ..Reasoning::default()
    };
    let mut is_adaptive = false;
    if let Some(thinking) = body.get("thinking") {
        match thinking.kind()? {
            "enabled" => {
                reasoning.max_tokens = Some(thinking.require("budget_tokens")?.count()?);
            }
            "disabled" => reasoning.without_thinking = true,
            kind => is_adaptive = kind == "adaptive",
        }
    }
    let is_set = is_adaptive || reasoning.effort.is_some() || reasoning.max_tokens.is_some();
    Ok(is_set.then_some(reasoning))
}

/// Removes from earlier answers the citations that the gateway wrote incompletely: the API would
/// refuse them. Whether there were any.
fn remove_gateway_citations(body: &mut Value) -> bool {
    let mut removed = false;
    let messages = body.get_mut("messages").and_then(Value::as_array_mut);
    for message in messages.into_iter().flatten() {
        let content = message.get_mut("content").and_then(Value::as_array_mut);
        for block in content.into_iter().flatten() {
            let Some(Value::Array(citations)) = block.get_mut("citations") else {
                continue;
            };
            let before = citations.len();
            citations.retain(|citation| !is_gateway_citation(citation));
            removed |= citations.len() < before;
            if citations.is_empty()
                && let Some(block) = block.as_object_mut()
            {
                block.shift_remove("citations");
            }
        }
    }
    removed
}
