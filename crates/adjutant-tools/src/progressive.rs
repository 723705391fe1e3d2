//! Many tools behind two: one to search for them and one to call them.
//!
//! Descriptions of hundreds of tools fill a model's context and make it choose worse. Beyond a threshold the model gets
//! `search_tools` and `call_tool` in their place; the list stays the same throughout a run, so that prompts stay cached.

use adjutant_core::{Effect, Json, ToolAnswer, ToolSpec};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Result, ToolError, parse_arguments};

/// The tool that finds tools.
pub const SEARCH_TOOLS: &str = "search_tools";
/// The tool that calls tools.
pub const CALL_TOOL: &str = "call_tool";
/// Tools that one search finds at most.
const MAX_FOUND: usize = 20;
/// Tools that a search finds when it does not say how many.
const DEFAULT_FOUND: usize = 5;

/// What a model is shown of a list of tools.
pub struct ToolView {
    tools: Vec<ToolSpec>,
    /// Whether the model searches for them.
    searched: bool,
}

/// What a model's call of a tool comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// A call of this tool with these arguments. Journal, count and approve it under its own name.
    Call {
        /// The tool.
        name: String,
        /// What it gets.
        arguments: Json,
    },
    /// A search, with its answer. Nothing is to be called.
    Found(ToolAnswer),
}

impl ToolView {
    /// A view on these tools; more than `threshold` of them are searched for.
    #[must_use]
    pub fn new(tools: Vec<ToolSpec>, threshold: usize) -> Self {
        Self {
            searched: tools.len() > threshold,
            tools,
        }
    }

    /// The tools to tell the model of.
    #[must_use]
    pub fn specs(&self) -> Vec<ToolSpec> {
        if self.searched {
            return vec![self.search_spec(), call_spec()];
        }
        self.tools.clone()
    }

    fn search_spec(&self) -> ToolSpec {
        let description = format!(
            "Finds tools among {} by what they do. Returns their names, descriptions and the schemas of their \
             arguments; call one with `{CALL_TOOL}`.",
            self.tools.len()
        );
        let schema = json!({
            "type": "object",
            "properties": {
                "query": { "type": "string", "description": "Words about what is to be done" },
                "limit": { "type": "integer", "minimum": 1, "maximum": MAX_FOUND },
            },
            "required": ["query"],
        });
        ToolSpec::new(SEARCH_TOOLS, description, schema).effect(Effect::ReadOnly)
    }

    /// Says what a model's call means. `arguments` may be text, as some providers give them.
    ///
    /// # Errors
    /// [`ToolError::InvalidArguments`] for the model to read.
    pub fn asked(&self, name: &str, arguments: &Json) -> Result<Asked> {
        let arguments = parse_arguments(name, arguments)?;
        match name {
            SEARCH_TOOLS if self.searched => {
                Ok(Asked::Found(self.search(&read(name, &arguments)?)))
            }
            CALL_TOOL if self.searched => {
                let call: Call = read(name, &arguments)?;
                Ok(Asked::Call {
                    arguments: parse_arguments(&call.name, &call.arguments)?,
                    name: call.name,
                })
            }
            _ => Ok(Asked::Call {
                name: name.to_owned(),
                arguments,
            }),
        }
    }

    fn search(&self, search: &Search) -> ToolAnswer {
        let words = words(&search.query);
        let mut found: Vec<_> = self
            .tools
            .iter()
            .map(|tool| (score(tool, &words), tool))
            .filter(|(score, _)| *score > 0)
            .collect();
        // Stable: tools that fit alike stay in the order of the list.
        found.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        let limit = search.limit.unwrap_or(DEFAULT_FOUND).clamp(1, MAX_FOUND);
        let found: Vec<Value> = found
            .into_iter()
            .take(limit)
            .map(|(_, tool)| describe(tool))
            .collect();
        ToolAnswer::data(json!({ "tools": found }))
    }
}

fn call_spec() -> ToolSpec {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "description": "The tool's name, as found" },
            "arguments": { "type": "object", "description": "What its schema asks for" },
        },
        "required": ["name", "arguments"],
    });
    let description = format!("Calls a tool that `{SEARCH_TOOLS}` found.");
    ToolSpec::new(CALL_TOOL, description, schema)
}

#[derive(Deserialize)]
struct Search {
    query: String,
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct Call {
    name: String,
    #[serde(default)]
    arguments: Json,
}

fn read<'a, T: Deserialize<'a>>(tool: &str, arguments: &'a Json) -> Result<T> {
    serde_json::from_str(arguments.as_str())
        .map_err(|error| ToolError::invalid(tool, "", error.to_string()))
}

fn describe(tool: &ToolSpec) -> Value {
    json!({
        "name": tool.name,
        "description": tool.description,
        "arguments": tool.input_schema,
        "unavailable": tool.unavailable,
    })
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        // Single letters such as `a` fit everything.
        .filter(|word| word.len() > 1)
        .map(str::to_lowercase)
        .collect()
}

/// How well a tool fits the words: one in its name counts for more than one in its description.
fn score(tool: &ToolSpec, wanted: &[String]) -> usize {
    let name = tool.name.to_lowercase();
    let description = words(&tool.description);
    let one = |word: &String| {
        let in_name = if name.contains(word.as_str()) { 3 } else { 0 };
        // A word's beginning is enough: `file` finds `files`.
        let described = description
            .iter()
            .any(|other| other.starts_with(word.as_str()));
        in_name + usize::from(described)
    };
    wanted.iter().map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Vec<ToolSpec> {
        [
            ("fs__read_file", "Reads a file"),
            ("git__log", "Shows the history of a repository"),
            ("git__read", "Reads files of a commit"),
        ]
        .map(|(name, text)| ToolSpec::new(name, text, json!({ "type": "object" })))
        .to_vec()
    }

    fn names(view: &ToolView, query: &str) -> Vec<String> {
        let arguments = json!({ "query": query }).into();
        let Ok(Asked::Found(answer)) = view.asked(SEARCH_TOOLS, &arguments) else {
            panic!("no search");
        };
        let found = answer.structured_content.unwrap();
        let found = found["tools"].as_array().unwrap();
        found
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn few_tools_are_shown_and_many_are_searched_for() {
        assert_eq!(ToolView::new(tools(), 3).specs(), tools());
        let specs = ToolView::new(tools(), 2).specs();
        let shown: Vec<_> = specs.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(shown, [SEARCH_TOOLS, CALL_TOOL]);
    }

    #[test]
    fn a_search_finds_the_best_first_and_nothing_that_does_not_fit() {
        let view = ToolView::new(tools(), 0);
        assert_eq!(names(&view, "read a FILE"), ["fs__read_file", "git__read"]);
        assert_eq!(names(&view, "history"), ["git__log"]);
        assert!(names(&view, "weather").is_empty());
    }

    #[test]
    fn a_call_through_call_tool_is_a_call_of_the_tool() {
        let view = ToolView::new(tools(), 0);
        let wanted = Asked::Call {
            name: "git__log".into(),
            arguments: Json::parse(r#"{"n":1}"#.into()).unwrap(),
        };
        for arguments in [json!({ "n": 1 }), json!(r#"{"n":1}"#)] {
            let call = json!({ "name": "git__log", "arguments": arguments });
            assert_eq!(view.asked(CALL_TOOL, &call.into()).unwrap(), wanted);
        }
        let direct = view.asked("git__log", &json!({ "n": 1 }).into()).unwrap();
        assert_eq!(direct, wanted);
    }

    #[test]
    fn a_search_without_a_query_is_the_models_mistake() {
        let view = ToolView::new(tools(), 0);
        let error = view.asked(SEARCH_TOOLS, &json!({}).into()).unwrap_err();
        assert!(error.is_models_mistake() && error.to_string().contains("query"));
    }
}
