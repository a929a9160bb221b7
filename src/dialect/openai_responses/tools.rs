//! The client's tools under the names and in the form that other protocols have: functions with JSON
//! arguments. A call is given back in the form of its tool.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use crate::dialect::field::{Field, NativeOnly};
use crate::model::{Error, Tool, ToolChoice};

/// The tools that the client itself runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ToolTable {
    tools: Vec<ClientTool>,
    /// Their positions by their names for the model.
    by_offered: HashMap<String, usize>,
    /// Their positions by namespace and name; the namespace of a search is [`SEARCH_SPACE`].
    by_name: HashMap<(String, String), usize>,
}

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
/// Keeps the search apart from a function of that name. No namespace is called so.
const SEARCH_SPACE: &str = "\0";

/// The member of a function's arguments that holds the input of a custom tool.
pub(super) const INPUT: &str = "input";

impl ToolTable {
    /// The tools of a request's body, those that a search found included. Tools without a namespace keep
    /// their names.
    pub(super) fn new(body: &Map<String, Value>) -> Self {
        let mut table = Self::default();
        for in_namespaces in [false, true] {
            for tools in tool_lists(body) {
                for tool in tools.and_then(Value::as_array).into_iter().flatten() {
                    table.add_tool(tool, in_namespaces);
                }
            }
        }
        table
    }

    /// The tool that the model calls by the name `offered`.
    pub(super) fn find(&self, offered: &str) -> Option<&ClientTool> {
        self.tools.get(*self.by_offered.get(offered)?)
    }

    /// The name for the model. A tool that is not offered any more keeps its own name.
    pub(super) fn offered<'a>(&'a self, namespace: Option<&str>, name: &'a str) -> &'a str {
        let key = (namespace.unwrap_or_default().to_owned(), name.to_owned());
        let found = self.by_name.get(&key).and_then(|at| self.tools.get(*at));
        found.map_or(name, |tool| &tool.offered)
    }

    /// The search's name for the model, if the client offers a search.
    pub(super) fn search(&self) -> Option<&str> {
        let offered = self.offered(Some(SEARCH_SPACE), SEARCH);
        let tool = self.find(offered);
        tool.filter(|tool| tool.kind == ToolKind::Search)
            .map(|_| offered)
    }

    /// Adds the tools without a namespace first, and those in namespaces later.
    fn add_tool(&mut self, tool: &Value, in_namespaces: bool) {
        let name = tool["name"].as_str();
        match (tool["type"].as_str(), name) {
            (Some("namespace"), Some(namespace)) if in_namespaces => {
                for tool in tool["tools"].as_array().into_iter().flatten() {
                    if let (Some(kind), Some(name)) = (tool_kind(tool), tool["name"].as_str()) {
                        self.add(kind, name, Some(namespace));
                    }
                }
            }
            (Some("tool_search"), _) if !in_namespaces && is_client_search(tool) => {
                self.add(ToolKind::Search, SEARCH, None);
            }
            (_, Some(name)) if !in_namespaces => {
                if let Some(kind) = tool_kind(tool) {
                    self.add(kind, name, None);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, kind: ToolKind, name: &str, namespace: Option<&str>) {
        let space = match kind {
            ToolKind::Search => SEARCH_SPACE,
            _ => namespace.unwrap_or_default(),
        };
        let key = (space.to_owned(), name.to_owned());
        if self.by_name.contains_key(&key) {
            return;
        }
        let mut offered = name.to_owned();
        // Two namespaces may have functions of the same name.
        if let (true, Some(namespace)) = (self.by_offered.contains_key(name), namespace) {
            offered = format!("{namespace}__{name}");
        }
        while self.by_offered.contains_key(&offered) {
            offered.push('_');
        }
        let at = self.tools.len();
        self.by_name.insert(key, at);
        self.by_offered.insert(offered.clone(), at);
        self.tools.push(ClientTool {
            offered,
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
            kind,
        });
    }
}

fn tool_kind(tool: &Value) -> Option<ToolKind> {
    match tool["type"].as_str() {
        Some("function") => Some(ToolKind::Function),
        Some("custom") => Some(ToolKind::Custom),
        _ => None,
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
    /// The names of `tools`.
    names: HashSet<String>,
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
            names: HashSet::new(),
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
            "tool_search" if namespace.is_none() && is_client_search(field.value) => {
                let tool = function_members(field)?;
                self.push(self.table.search().unwrap_or(SEARCH).to_owned(), tool);
                return Ok(());
            }
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
        self.push(offered, tool);
        Ok(())
    }

    /// A search may find what was offered before.
    fn push(&mut self, name: String, tool: Tool) {
        if self.names.insert(name.clone()) {
            self.tools.push(Tool { name, ..tool });
        }
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
            "tool_search" => self
                .table
                .search()
                .map(|name| ToolChoice::Function(name.to_owned())),
            "allowed_tools" => {
                let mut allowed = HashSet::new();
                for tool in field.require("tools")?.elements()? {
                    let namespace = tool.text_of("namespace")?;
                    let name = tool.text_of("name")?.unwrap_or_default();
                    let offered = match tool.kind()? {
                        "tool_search" => self.table.search().unwrap_or(SEARCH),
                        _ => self.table.offered(namespace.as_deref(), &name),
                    };
                    allowed.insert(offered.to_owned());
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
