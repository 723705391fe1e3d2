//! The run states: drawn by the state machine itself.

use anyhow::{Result, ensure};

use crate::{shell, workspace::Workspace};

const EXAMPLE: &str = "crates/adjutant-core/examples/states.rs";

/// Asks the state machine for its diagram, in Mermaid.
pub fn render(workspace: &Workspace) -> Result<String> {
    ensure!(
        workspace.path(EXAMPLE).is_file(),
        "{EXAMPLE} is missing: it prints the run states as a Mermaid stateDiagram"
    );
    let mut command = workspace.cargo();
    command.args([
        "run",
        "--quiet",
        "-p",
        "adjutant-core",
        "--example",
        "states",
    ]);
    let diagram = shell::read(&mut command)?;
    ensure!(
        diagram.contains("stateDiagram"),
        "{EXAMPLE} printed no Mermaid stateDiagram"
    );
    Ok(format!("```mermaid\n{}\n```", diagram.trim()))
}
