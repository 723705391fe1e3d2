//! `cargo xtask layers`: who may depend on whom, as a table that the manifests are held to.
//!
//! Cargo refuses cycles; it does not refuse a contract that learns about an engine. A new edge is a one-line change
//! below, where someone gets to discuss it. The crate map in `docs/architecture.md` is drawn from the same table.

use anyhow::{Result, bail};

use crate::{
    command::{self, Command},
    workspace::{Package, Workspace},
};

pub const COMMAND: Command = Command {
    name: "layers",
    args: "",
    summary: "hold the manifests to the table of allowed dependencies",
    help: "The table is in xtask/src/layers.rs. Dependencies of tests are not looked at.",
    run: |workspace, args| {
        command::no_args(args)?;
        layers(workspace)
    },
};

/// Where a crate stands. Dependencies point down only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A numbered level of the product.
    Product(u8),
    /// Serves development; no product crate may need it.
    Dev,
}

/// The workspace crates that one crate may depend on.
pub enum Allowed {
    Only(&'static [&'static str]),
    /// Every crate with a numbered level; for what puts the product together. Cargo keeps it from going in circles.
    Product,
    Anything,
}

impl Allowed {
    fn includes(&self, name: &str) -> bool {
        match self {
            Self::Only(names) => names.contains(&name),
            Self::Product => TABLE
                .iter()
                .any(|row| row.name == name && row.level != Level::Dev),
            Self::Anything => true,
        }
    }
}

/// One crate: where it stands, what it is for, what it may use.
pub struct Row {
    pub level: Level,
    pub name: &'static str,
    pub job: &'static str,
    pub may_use: Allowed,
}

const fn row(
    level: u8,
    name: &'static str,
    job: &'static str,
    may_use: &'static [&'static str],
) -> Row {
    Row {
        level: Level::Product(level),
        name,
        job,
        may_use: Allowed::Only(may_use),
    }
}

const fn top(name: &'static str, job: &'static str) -> Row {
    Row {
        level: Level::Product(7),
        name,
        job,
        may_use: Allowed::Product,
    }
}

const fn dev(name: &'static str, job: &'static str, may_use: Allowed) -> Row {
    Row {
        level: Level::Dev,
        name,
        job,
        may_use,
    }
}

const CORE: &str = "adjutant-core";
const WIRE: &str = "adjutant-wire";
const LOGS: &str = "adjutant-logs";
const CONFINE: &str = "adjutant-confine";
const QUEUE: &str = "adjutant-queue";
const STATE: &str = "adjutant-state";
const EVENTS: &str = "adjutant-events";
const STORE: &str = "adjutant-store";
const ENGINE: &str = "adjutant-engine";
const EXECUTOR: &str = "adjutant-executor";
const PROCESS: &str = "adjutant-process";
const BUDGET: &str = "adjutant-budget";
const LLM: &str = "adjutant-llm";
const TOOLS: &str = "adjutant-tools";
const TELEMETRY: &str = "adjutant-telemetry";

pub const TABLE: &[Row] = &[
    row(
        1,
        CORE,
        "the words shared by all: ids, run states, messages, events, errors; no I/O",
        &[],
    ),
    row(
        1,
        WIRE,
        "the messages between the runtime and an agent in another process",
        &[],
    ),
    row(
        1,
        LOGS,
        "the logs of agents: bounded files, read back and followed, passed on",
        &[],
    ),
    row(
        1,
        CONFINE,
        "isolation of child processes: what one may see, change and reach",
        &[],
    ),
    row(
        2,
        "adjutant-conformance",
        "holds any agent program to the rules of the agent wire",
        &[WIRE],
    ),
    row(
        2,
        QUEUE,
        "the contract of the run queue, with leases and the memory queue",
        &[CORE],
    ),
    row(
        2,
        STATE,
        "the contract for journals and checkpoints, with the memory store",
        &[CORE],
    ),
    row(
        2,
        EVENTS,
        "the contract of the event log, with the memory log",
        &[CORE],
    ),
    row(
        2,
        "adjutant-agent",
        "what an agent in a process of its own is written with",
        &[WIRE],
    ),
    row(
        2,
        PROCESS,
        "child processes: owned, limited, supervised",
        &[CORE, WIRE, LOGS, CONFINE],
    ),
    row(
        2,
        BUDGET,
        "budgets: the ledger that reserves before a call and settles after it",
        &[CORE],
    ),
    row(
        2,
        LLM,
        "language models behind one contract: providers, retries, limits, prices",
        &[CORE],
    ),
    row(
        2,
        TOOLS,
        "tools an agent may call: typed functions, HTTP, and their registry",
        &[CORE],
    ),
    row(
        2,
        TELEMETRY,
        "traces and metrics of runs, models and tools",
        &[CORE],
    ),
    row(
        3,
        "adjutant-mcp",
        "the pool of MCP servers: started, shared, supervised",
        &[CORE, LOGS, CONFINE, PROCESS, TOOLS],
    ),
    row(
        3,
        "adjutant-endpoint",
        "the loopback endpoint in OpenAI's and Anthropic's shape",
        &[CORE],
    ),
    row(
        4,
        "adjutant-harness",
        "gives agents models and tools: journaled, budgeted, traced",
        &[CORE, BUDGET, LLM, TOOLS, TELEMETRY],
    ),
    row(
        3,
        STORE,
        "queue, state and events of one database behind one atomic commit",
        &[CORE, QUEUE, STATE, EVENTS, BUDGET],
    ),
    row(
        4,
        ENGINE,
        "what engines over a database share: grouped commits, a batch's working set, waiting",
        &[CORE, QUEUE, STATE, EVENTS, STORE, BUDGET],
    ),
    row(
        5,
        "adjutant-sqlite",
        "the embedded engine: the store in one SQLite file",
        &[CORE, QUEUE, STATE, EVENTS, STORE, ENGINE, BUDGET],
    ),
    row(
        5,
        "adjutant-postgres",
        "the store on PostgreSQL, for many processes on many machines",
        &[CORE, QUEUE, STATE, EVENTS, STORE, ENGINE, BUDGET],
    ),
    row(
        5,
        "adjutant-redis",
        "the store on Redis: standalone, Sentinel or Cluster",
        &[CORE, QUEUE, STATE, EVENTS, STORE, ENGINE, BUDGET],
    ),
    row(
        4,
        EXECUTOR,
        "drives runs: claims, executes, journals, retries, cancels",
        &[CORE, QUEUE, STATE, EVENTS, STORE],
    ),
    top(
        "adjutant",
        "one name to depend on: the libraries re-exported",
    ),
    top(
        "adjutant-cli",
        "the binary `agent`: the only reader of configuration and environment",
    ),
    dev(
        "adjutant-testkit",
        "virtual time, fault injection and simulation for tests",
        Allowed::Only(&[
            CORE, QUEUE, STATE, EVENTS, STORE, EXECUTOR, BUDGET, LLM, TOOLS,
        ]),
    ),
    dev(
        "adjutant-servers",
        "private database servers for tests and measurements",
        Allowed::Only(&[]),
    ),
    dev("adjutant-bench", "measurements", Allowed::Anything),
    dev("xtask", "automation of this repository", Allowed::Only(&[])),
];

/// Examples see what a user sees.
const EXAMPLES: Allowed = Allowed::Only(&["adjutant", "adjutant-agent"]);

/// Compares every manifest with the table.
pub fn layers(workspace: &Workspace) -> Result<()> {
    let packages = workspace.packages()?;
    let problems = problems(&packages);
    if problems.is_empty() {
        println!("layers: {} packages keep to the table", packages.len());
        return Ok(());
    }
    for problem in &problems {
        println!("{problem}");
    }
    bail!(
        "the manifests and the table in xtask/src/layers.rs disagree in {} places",
        problems.len()
    )
}

fn problems(packages: &[Package]) -> Vec<String> {
    let mut problems: Vec<String> = packages.iter().flat_map(check_package).collect();
    for row in TABLE {
        if !packages.iter().any(|package| package.name == row.name) {
            problems.push(format!(
                "{} has a row but is no package: remove the row",
                row.name
            ));
        }
    }
    problems
}

fn check_package(package: &Package) -> Vec<String> {
    let name = &package.name;
    let allowed = match TABLE.iter().find(|row| row.name == name) {
        Some(row) => &row.may_use,
        None if package.manifest.starts_with("examples/") => &EXAMPLES,
        None => {
            return vec![format!(
                "{name} has no row: give it a level and what it may use"
            )];
        }
    };
    let used = package
        .dependencies
        .iter()
        .filter(|dependency| !dependency.dev);
    used.filter(|dependency| !allowed.includes(&dependency.name))
        .map(|dependency| format!("{name} may not depend on {}", dependency.name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    /// A package with normal (`name`) and development (`dev:name`) dependencies.
    fn package(name: &str, folder: &str, dependencies: &[&str]) -> Package {
        let dependency = |text: &&str| Dependency {
            name: text.trim_start_matches("dev:").to_owned(),
            dev: text.starts_with("dev:"),
        };
        Package {
            name: name.to_owned(),
            manifest: format!("{folder}/{name}/Cargo.toml"),
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    #[test]
    fn the_manifests_keep_to_the_table() {
        let packages = Workspace::find().unwrap().packages().unwrap();
        assert_eq!(problems(&packages), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_in_the_table_is_refused() {
        let cases: [(&str, &str, &[&str], &[&str]); 6] = [
            ("adjutant-store", "crates", &["adjutant-queue"], &[]),
            (
                "adjutant-queue",
                "crates",
                &["adjutant-store"],
                &["adjutant-queue may not depend on adjutant-store"],
            ),
            ("adjutant-queue", "crates", &["dev:adjutant-testkit"], &[]),
            (
                "adjutant-cli",
                "crates",
                &["adjutant-testkit"],
                &["adjutant-cli may not depend on adjutant-testkit"],
            ),
            (
                "example-any",
                "examples",
                &["adjutant", "adjutant-core"],
                &["example-any may not depend on adjutant-core"],
            ),
            (
                "adjutant-new",
                "crates",
                &[],
                &["adjutant-new has no row: give it a level and what it may use"],
            ),
        ];
        for (name, folder, dependencies, expected) in cases {
            assert_eq!(
                check_package(&package(name, folder, dependencies)),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn the_table_points_down_only() {
        for row in TABLE {
            let Allowed::Only(allowed) = &row.may_use else {
                continue;
            };
            for name in *allowed {
                let used = TABLE.iter().find(|other| other.name == *name).unwrap();
                assert!(used.level < row.level, "{} uses {name}", row.name);
            }
        }
    }

    #[test]
    fn a_row_without_a_package_is_reported() {
        assert_eq!(problems(&[]).len(), TABLE.len());
    }
}
