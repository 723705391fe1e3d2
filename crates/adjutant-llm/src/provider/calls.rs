//! Tool calls while they come.

use adjutant_core::{Json, ModelDelta, ToolCall};
use genai::chat::ToolCall as Foreign;
use serde_json::Value;

/// What has been shown of the calls. The library hands on each call as far as it got; watchers want what is new.
#[derive(Default)]
pub(super) struct Calls {
    shown: Vec<Shown>,
}

struct Shown {
    id: String,
    /// Bytes of the arguments.
    length: usize,
}

impl Calls {
    /// The pieces of `call` that were not shown yet.
    pub(super) fn pieces(&mut self, call: &Foreign) -> Option<ModelDelta> {
        match &call.fn_arguments {
            Value::String(so_far) => self.growing(call, so_far),
            // Whole calls come once each, in some providers' form all with the same id.
            whole => {
                let index = self.shown.len();
                let id = unique(&call.call_id, &self.shown.iter().map(|shown| &*shown.id));
                let arguments = text(whole);
                self.shown.push(Shown {
                    id: id.clone(),
                    length: arguments.len(),
                });
                Some(delta(index, Some((id, &call.fn_name)), arguments))
            }
        }
    }

    fn growing(&mut self, call: &Foreign, so_far: &str) -> Option<ModelDelta> {
        let known = self
            .shown
            .iter()
            .rposition(|shown| shown.id == call.call_id);
        let Some(index) = known else {
            self.shown.push(Shown {
                id: call.call_id.clone(),
                length: so_far.len(),
            });
            let head = Some((call.call_id.clone(), &*call.fn_name));
            return Some(delta(self.shown.len() - 1, head, so_far.to_owned()));
        };
        let shown = self.shown.get_mut(index)?;
        let new = so_far.get(shown.length..).unwrap_or_default().to_owned();
        shown.length = shown.length.max(so_far.len());
        (!new.is_empty()).then(|| delta(index, None, new))
    }

    /// The calls of the whole answer, each with an id of its own, and pieces for those that nobody has seen yet.
    pub(super) fn finish(self, calls: Vec<Foreign>) -> (Vec<ToolCall>, Vec<ModelDelta>) {
        let mut whole: Vec<ToolCall> = Vec::with_capacity(calls.len());
        let mut unseen = Vec::new();
        for (index, call) in calls.into_iter().enumerate() {
            let id = unique(&call.call_id, &whole.iter().map(|call| &*call.id));
            if index >= self.shown.len() {
                let arguments = text(&call.fn_arguments);
                unseen.push(delta(index, Some((id.clone(), &call.fn_name)), arguments));
            }
            whole.push(ToolCall {
                id,
                name: call.fn_name,
                arguments: arguments(call.fn_arguments),
            });
        }
        (whole, unseen)
    }
}

/// What was no JSON stays text, which no tool's schema accepts; nothing at all is no arguments.
fn arguments(value: Value) -> Json {
    match value {
        Value::Null => serde_json::json!({}).into(),
        Value::String(text) if text.trim().is_empty() => serde_json::json!({}).into(),
        other => other.into(),
    }
}

fn text(arguments: &Value) -> String {
    match arguments {
        Value::Null => "{}".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `id`, or `name#n` for an id that was there before. The form is the one that the library makes up for providers whose
/// calls have no ids, and leaves out again when they go back.
fn unique<'a>(id: &str, others: &(impl Iterator<Item = &'a str> + Clone)) -> String {
    let taken = |id: &str| others.clone().any(|other| other == id);
    if !taken(id) {
        return id.to_owned();
    }
    let stem = id.rsplit_once('#').map_or(id, |(stem, _)| stem);
    (1_u32..)
        .map(|n| format!("{stem}#{n}"))
        .find(|id| !taken(id))
        .unwrap_or_default()
}

fn delta(index: usize, head: Option<(String, &str)>, arguments: String) -> ModelDelta {
    let (id, name) = head.map(|(id, name)| (id, name.to_owned())).unzip();
    ModelDelta::ToolCall {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        id,
        name,
        arguments,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(id: &str, arguments: Value) -> Foreign {
        Foreign {
            call_id: id.into(),
            fn_name: "look".into(),
            fn_arguments: arguments,
            thought_signatures: None,
        }
    }

    #[test]
    fn pieces_of_growing_calls_add_up() {
        let mut calls = Calls::default();
        let steps = [
            ("a", ""),
            ("b", "{\"y\""),
            ("a", "{\"x\":"),
            ("a", "{\"x\":1}"),
            ("b", "{\"y\":2}"),
        ];
        let mut seen = [String::new(), String::new()];
        for (id, so_far) in steps {
            let Some(ModelDelta::ToolCall {
                index, arguments, ..
            }) = calls.pieces(&call(id, json!(so_far)))
            else {
                panic!("{id} {so_far}");
            };
            seen[index as usize].push_str(&arguments);
        }
        assert_eq!(seen, ["{\"x\":1}", "{\"y\":2}"]);
    }

    #[test]
    fn whole_calls_without_ids_of_their_own_get_them() {
        let mut calls = Calls::default();
        let same = || call("call#look#0", json!({"x": 1}));
        calls.pieces(&same());
        calls.pieces(&same());
        let (whole, unseen) = calls.finish(vec![same(), same(), same()]);
        let ids: Vec<_> = whole.iter().map(|call| &*call.id).collect();
        assert_eq!(ids, ["call#look#0", "call#look#1", "call#look#2"]);
        assert_eq!(unseen.len(), 1);
    }

    #[test]
    fn arguments_are_an_object_wherever_that_can_be() {
        for (given, expected) in [
            (json!({"x": 1}), json!({"x": 1})),
            (json!(null), json!({})),
            (json!(""), json!({})),
            (json!("{\"x\":"), json!("{\"x\":")),
        ] {
            assert_eq!(arguments(given), expected.into());
        }
    }
}
