//! The client's tools under the names and in the form that other protocols have: functions with JSON
//! arguments. A call is given back in the form of its tool.

use serde_json::{Map, Value, json};

use crate::dialect::field::{Field, NativeOnly};
use crate::model::{Error, Tool, ToolChoice};

/// The tools that the client itself runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ToolTable(Vec<ClientTool>);

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClientTool {
    /// Its name for the model.
    offered: String,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) kind: ToolKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToolKind {
    Function,
    /// Its input is a free text.
    Custom,
    /// A search of tools, which the client runs.
    Search,
}

/// The name of the search of tools, which has none of its own.
pub(super) const SEARCH: &str = "tool_search";

/// The member of a function's arguments that holds the input of a custom tool.
pub(super) const INPUT: &str = "input";

impl ToolTable {
    /// The tools of a request's body, those that a search found included.
    pub(super) fn new(body: &Map<String, Value>) -> Self {
        let mut table = Self::default();
        for tools in tool_lists(body) {
            for tool in tools.and_then(Value::as_array).into_iter().flatten() {
                table.add(tool, None);
            }
        }
        table
    }

    /// The tool that the model calls by the name `offered`.
    pub(super) fn find(&self, offered: &str) -> Option<&ClientTool> {
        self.0.iter().find(|tool| tool.offered == offered)
    }

    /// The name for the model. A tool that is not offered any more keeps its own name.
    pub(super) fn offered<'a>(&'a self, namespace: Option<&str>, name: &'a str) -> &'a str {
        let tools = &mut self.0.iter();
        let found = tools.find(|tool| tool.name == name && tool.namespace.as_deref() == namespace);
        found.map_or(name, |tool| &tool.offered)
    }

    fn add(&mut self, tool: &Value, namespace: Option<&str>) {
        let name = tool["name"].as_str();
        let (kind, name) = match (tool["type"].as_str(), name) {
            (Some("function"), Some(name)) => (ToolKind::Function, name),
            (Some("custom"), Some(name)) => (ToolKind::Custom, name),
            (Some("tool_search"), _) if is_client_search(tool) => (ToolKind::Search, SEARCH),
            (Some("namespace"), Some(name)) if namespace.is_none() => {
                for tool in tool["tools"].as_array().into_iter().flatten() {
                    self.add(tool, Some(name));
                }
                return;
            }
            _ => return,
        };
        let is_known =
            |tool: &ClientTool| tool.name == name && tool.namespace.as_deref() == namespace;
        if self.0.iter().any(is_known) {
            return;
        }
        let mut offered = name.to_owned();
        // Two namespaces may have functions of the same name.
        if let (Some(_), Some(namespace)) = (self.find(name), namespace) {
            offered = format!("{namespace}__{name}");
        }
        self.0.push(ClientTool {
            offered,
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
            kind,
        });
    }
}

/// The lists of tools in a body: its own, and those that items of the conversation add.
fn tool_lists(body: &Map<String, Value>) -> impl Iterator<Item = Option<&Value>> {
    let items = body.get("input").and_then(Value::as_array);
    let added = items.into_iter().flatten().filter(|item| adds_tools(item));
    std::iter::once(body.get("tools")).chain(added.map(|item| item.get("tools")))
}

/// Whether an item of the conversation has tools.
pub(super) fn adds_tools(item: &Value) -> bool {
    matches!(
        item["type"].as_str(),
        Some("tool_search_output" | "additional_tools")
    )
}

fn is_client_search(tool: &Value) -> bool {
    tool["execution"] == "client"
}

/// Parses the tools of a request.
pub(super) struct ToolParser<'a> {
    pub(super) table: &'a ToolTable,
    pub(super) tools: Vec<Tool>,
    /// The tools that only this protocol has.
    pub(super) left_out: NativeOnly,
    /// The kinds of those, for the choice of a tool.
    kinds: Vec<String>,
}

impl<'a> ToolParser<'a> {
    pub(super) fn new(table: &'a ToolTable) -> Self {
        Self {
            table,
            tools: Vec::new(),
            left_out: NativeOnly::default(),
            kinds: Vec::new(),
        }
    }

    pub(super) fn parse(&mut self, list: &Field<'_>, namespace: Option<&str>) -> Result<(), Error> {
        for field in list.elements()? {
            self.parse_one(&field, namespace)?;
        }
        Ok(())
    }

    fn parse_one(&mut self, field: &Field<'_>, namespace: Option<&str>) -> Result<(), Error> {
        let kind = field.kind()?;
        let tool = match kind {
            "function" => function(field)?,
            "custom" => custom(field)?,
            "tool_search" if is_client_search(field.value) => Tool {
                name: SEARCH.to_owned(),
                ..function_members(field)?
            },
            "namespace" if namespace.is_none() => {
                let name = field.required_name("name")?;
                return self.parse(&field.require("tools")?, Some(&name));
            }
            kind => {
                self.kinds.push(kind.to_owned());
                self.left_out.add_optional(field);
                return Ok(());
            }
        };
        let offered = self.table.offered(namespace, &tool.name).to_owned();
        // A search may find what was offered before.
        if !self.tools.iter().any(|known| known.name == offered) {
            self.tools.push(Tool {
                name: offered,
                ..tool
            });
        }
        Ok(())
    }

    /// The choice of a tool, with the tools that it leaves. `None` if the model must use what only this
    /// protocol has.
    pub(super) fn choice(&mut self, field: &Field<'_>) -> Result<Option<ToolChoice>, Error> {
        if let Some(mode) = field.value.as_str() {
            return self.mode(field, mode);
        }
        let choice = match field.kind()? {
            "function" | "custom" => {
                let namespace = field.text_of("namespace")?;
                let name = field.required_name("name")?;
                let offered = self.table.offered(namespace.as_deref(), &name);
                Some(ToolChoice::Function(offered.to_owned()))
            }
            "tool_search" if self.table.find(SEARCH).is_some() => {
                Some(ToolChoice::Function(SEARCH.to_owned()))
            }
            "allowed_tools" => {
                let mut allowed = Vec::new();
                for tool in field.require("tools")?.elements()? {
                    let namespace = tool.text_of("namespace")?;
                    let name = tool.text_of("name")?.unwrap_or_default();
                    let offered = self.table.offered(namespace.as_deref(), &name);
                    allowed.push(offered.to_owned());
                }
                self.tools.retain(|tool| allowed.contains(&tool.name));
                let mode = field.text_of("mode")?;
                return self.mode(field, mode.as_deref().unwrap_or("auto"));
            }
            _ => None,
        };
        Ok(choice)
    }

    fn mode(&self, field: &Field<'_>, mode: &str) -> Result<Option<ToolChoice>, Error> {
        Ok(Some(match mode {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            // Only what was left out could be called.
            "required" if self.tools.is_empty() && !self.kinds.is_empty() => return Ok(None),
            "required" => ToolChoice::Required,
            _ => return Err(field.invalid("must be `auto`, `none`, `required` or an object")),
        }))
    }
}

fn function(field: &Field<'_>) -> Result<Tool, Error> {
    Ok(Tool {
        name: field.required_name("name")?,
        strict: field.bool_of("strict")?,
        ..function_members(field)?
    })
}

fn function_members(field: &Field<'_>) -> Result<Tool, Error> {
    let parameters = field.get("parameters");
    if let Some(parameters) = &parameters {
        parameters.members()?;
    }
    Ok(Tool {
        description: field.text_of("description")?,
        parameters: parameters.map(|parameters| parameters.value.clone()),
        ..Tool::default()
    })
}

/// A function with one text. The grammar of the text goes into its description.
fn custom(field: &Field<'_>) -> Result<Tool, Error> {
    let mut input = "The input of the tool as plain text.".to_owned();
    if let Some(format) = field.get("format")
        && format.kind()? == "grammar"
    {
        let syntax = format.required_text("syntax")?;
        let definition = format.required_text("definition")?;
        input = format!("{input} It must match this grammar ({syntax}):\n{definition}");
    }
    Ok(Tool {
        name: field.required_name("name")?,
        description: field.text_of("description")?,
        parameters: Some(json!({
            "type": "object",
            "properties": { INPUT: { "type": "string", "description": input } },
            "required": [INPUT],
            "additionalProperties": false,
        })),
        ..Tool::default()
    })
}
