//! The crate map: the table of layers as a reader wants to see it.

use anyhow::Result;

use crate::{
    layers::{Allowed, Level, Row, TABLE},
    workspace::Workspace,
};

/// Renders the table of layers, lowest level first.
#[allow(
    clippy::unnecessary_wraps,
    reason = "all renderers share one signature"
)]
pub fn render(_: &Workspace) -> Result<String> {
    let mut text = String::from("| level | crate | its one job | may use |\n|---|---|---|---|\n");
    for row in TABLE {
        text.push_str(&format!(
            "| {} | `{}` | {} | {} |\n",
            level(row.level),
            row.name,
            row.job,
            may_use(row)
        ));
    }
    Ok(text)
}

fn level(level: Level) -> String {
    match level {
        Level::Product(number) => number.to_string(),
        Level::Dev => String::from("dev"),
    }
}

fn may_use(row: &Row) -> String {
    match row.may_use {
        Allowed::Only([]) => String::from("none of these"),
        Allowed::Only(names) => {
            // The prefix is the same for all and only hides the difference.
            let short = names
                .iter()
                .map(|name| name.trim_start_matches("adjutant-"));
            short.collect::<Vec<_>>().join(", ")
        }
        Allowed::Product => String::from("every library above"),
        Allowed::Anything => String::from("anything"),
    }
}
