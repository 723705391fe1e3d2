//! The published schema is the types' own.

#![cfg(feature = "schema")]
#![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use adjutant_wire::{AgentNotice, AgentRequest, HostNotice, HostRequest, schema::document};

const PATH: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/reference/agent-wire.schema.json"
);

/// `UPDATE_SCHEMA=1 cargo test -p adjutant-wire --all-features` writes it anew.
#[test]
fn the_published_schema_is_up_to_date() {
    let wanted = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(PATH, &wanted).unwrap();
    }
    let published = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        published == wanted,
        "out of date: UPDATE_SCHEMA=1 cargo test -p adjutant-wire --all-features"
    );
}

#[test]
fn every_method_is_in_the_schema_with_its_sender() {
    let document = document();
    let methods = document["methods"].as_object().unwrap();
    let from = |names: &[&[&str]], sender: &str| {
        for name in names.concat() {
            let said = methods[name]["from"].as_str().unwrap();
            assert!(said == sender || said == "both", "{name}: {said}");
        }
    };
    from(&[HostRequest::METHODS, HostNotice::METHODS], "host");
    from(&[AgentRequest::METHODS, AgentNotice::METHODS], "agent");
}
