//! `cargo xtask codegen`: the parts of `docs/` that are drawn from the code.
//!
//! A block sits between `<!-- generated:NAME -->` and `<!-- /generated -->`, each on a line of its own; the rest of
//! the page is written by people and left alone.

mod blocks;
mod crate_map;
mod run_states;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use crate::{
    command::{self, Command},
    workspace::Workspace,
};

pub const COMMAND: Command = Command {
    name: "codegen",
    args: "[--check]",
    summary: "draw the generated parts of docs/, or check that they are up to date",
    help: "Blocks: crate-map (the table in xtask/src/layers.rs), run-states (the state machine in adjutant-core).",
    run: |workspace, args| {
        if command::only_flag(args, "--check")? {
            check(workspace)
        } else {
            write(workspace)
        }
    },
};

/// Draws one block from the code as it is now.
type Renderer = fn(&Workspace) -> Result<String>;

/// What can be generated, by the name in the marker.
const RENDERERS: &[(&str, Renderer)] = &[
    ("crate-map", crate_map::render),
    ("run-states", run_states::render),
];

/// Fails when a generated block differs from what the code says now.
pub fn check(workspace: &Workspace) -> Result<()> {
    let stale: Vec<_> = updates(workspace)?
        .into_iter()
        .filter(Page::is_stale)
        .collect();
    if stale.is_empty() {
        println!("codegen: all blocks are up to date");
        return Ok(());
    }
    let names: Vec<_> = stale.iter().map(|page| page.path.as_str()).collect();
    bail!(
        "out of date: {}; run `cargo xtask codegen` and commit the result",
        names.join(", ")
    )
}

fn write(workspace: &Workspace) -> Result<()> {
    for page in updates(workspace)? {
        if page.is_stale() {
            workspace.write(&page.path, &page.wanted)?;
            println!("codegen: wrote {}", page.path);
        }
    }
    Ok(())
}

/// A page with at least one generated block.
struct Page {
    path: String,
    current: String,
    wanted: String,
}

impl Page {
    fn is_stale(&self) -> bool {
        self.current != self.wanted
    }
}

/// Every page under `docs/` with generated blocks, as it is and as it should be.
fn updates(workspace: &Workspace) -> Result<Vec<Page>> {
    let mut pages = Vec::new();
    for path in workspace.files()? {
        if path.starts_with("docs/") && path.ends_with(".md") {
            let current = workspace.read(&path)?;
            let names =
                blocks::names(&current).with_context(|| format!("failed to read {path}"))?;
            if !names.is_empty() {
                pages.push((path, current, names));
            }
        }
    }
    let names: BTreeSet<_> = pages
        .iter()
        .flat_map(|(_, _, names)| names.clone())
        .collect();
    let rendered = render(workspace, &names)?;
    let page = |(path, current, _): (String, String, _)| {
        let wanted = blocks::fill(&current, &rendered);
        Page {
            path,
            current,
            wanted,
        }
    };
    Ok(pages.into_iter().map(page).collect())
}

/// Renders the blocks that the pages ask for, which must be all there are.
fn render(workspace: &Workspace, names: &BTreeSet<String>) -> Result<BTreeMap<String, String>> {
    let known = |name: &String| RENDERERS.iter().any(|(renderer, _)| renderer == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        bail!("nothing generates `{name}`: add it to xtask/src/codegen.rs or remove the block");
    }
    let mut rendered = BTreeMap::new();
    for (name, renderer) in RENDERERS {
        if !names.contains(*name) {
            bail!("no page has a block `generated:{name}`: put it back or remove its renderer");
        }
        rendered.insert((*name).to_owned(), renderer(workspace)?);
    }
    Ok(rendered)
}
