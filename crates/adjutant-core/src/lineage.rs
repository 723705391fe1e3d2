//! Where a run stands in its tree of delegations.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Json, RunId};

/// The key in a run's metadata under which the runtime keeps what children inherit.
pub const RESERVED_METADATA: &str = "adjutant";

/// A run's place in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The run at the top.
    pub root: RunId,
    /// How many delegations it is below the top; 0 at the top.
    pub depth: u32,
}

impl Lineage {
    /// The place of a run with this metadata; a run that says nothing is at the top of its own tree.
    #[must_use]
    pub fn of(run: RunId, metadata: &Json) -> Self {
        #[derive(Deserialize)]
        struct Kept {
            adjutant: Lineage,
        }
        let top = Self {
            root: run,
            depth: 0,
        };
        metadata.to::<Kept>().map_or(top, |kept| kept.adjutant)
    }

    /// The metadata of a child: all that the parent has, one level further down.
    #[must_use]
    pub fn child_metadata(self, parent: &Json) -> Json {
        let mut metadata: Map<String, Value> = parent.to().unwrap_or_default();
        let mut reserved = match metadata.remove(RESERVED_METADATA) {
            Some(Value::Object(reserved)) => reserved,
            _ => Map::new(),
        };
        reserved.insert("root".to_owned(), self.root.to_string().into());
        reserved.insert("depth".to_owned(), self.depth.saturating_add(1).into());
        metadata.insert(RESERVED_METADATA.to_owned(), reserved.into());
        Json::from(Value::Object(metadata))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn children_inherit_metadata_and_know_their_root_and_depth() {
        let root = RunId::new();
        let metadata = Json::from(json!({ "tenant": "acme", "adjutant": { "note": 1 } }));
        let child = Lineage::of(root, &metadata).child_metadata(&metadata);
        let value: Value = child.to().unwrap();
        assert_eq!(value["tenant"], "acme");
        assert_eq!(value["adjutant"]["note"], 1);
        let grandchild = Lineage::of(RunId::new(), &child).child_metadata(&child);
        let place = Lineage::of(RunId::new(), &grandchild);
        assert_eq!(place, Lineage { root, depth: 2 });
    }

    #[test]
    fn a_run_without_an_object_for_metadata_is_a_root() {
        let run = RunId::new();
        for metadata in [Json::null(), Json::from("text"), Json::from(json!([1]))] {
            let place = Lineage::of(run, &metadata);
            assert_eq!(
                place,
                Lineage {
                    root: run,
                    depth: 0
                }
            );
            assert_eq!(
                Lineage::of(RunId::new(), &place.child_metadata(&metadata)).root,
                run
            );
        }
    }
}
