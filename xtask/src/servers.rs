//! `cargo xtask servers`: the programs of the database servers that tests start for themselves.
//!
//! Tests start private servers in folders of their own; what they need is that the programs are there. A machine that
//! lacks one would otherwise learn of it from failing tests, ten minutes later.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command as Process,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    command::{self, Command},
    peers, shell,
    workspace::Workspace,
};

pub const COMMAND: Command = Command {
    name: "servers",
    args: "",
    summary: "see that all programs are there that tests start; install what is missing",
    help: "Tests start private servers of their own. Where PostgreSQL, Redis or Node.js are missing, root has them \
           installed with apt-get; anybody else is told what to install. MCP servers and libraries that tests speak to \
           are brought by npm and pip into target/peers, as xtask/peers pins them.",
    run: |workspace, args| {
        command::no_args(args)?;
        servers(workspace)
    },
};

/// Where Debian puts PostgreSQL's programs, by version.
const POSTGRES_PLACES: &str = "/usr/lib/postgresql";

/// The oldest Node.js that the library for JavaScript runs on.
const NODE: u32 = 18;

/// The oldest Redis that will do.
const REDIS: u32 = 7;

/// A server that tests start.
struct Server {
    name: &'static str,
    /// The package it comes with.
    package: &'static str,
    /// Where it is, or what is wrong.
    find: fn() -> Result<String>,
}

const SERVERS: &[Server] = &[
    Server {
        name: "PostgreSQL",
        package: "postgresql",
        find: find_postgres,
    },
    Server {
        name: "Redis",
        package: "redis-server",
        find: find_redis,
    },
    // No server, but what agents in JavaScript run on, which tests start as well.
    Server {
        name: "Node.js",
        package: "nodejs",
        find: find_node,
    },
];

/// Sees that all programs are there, and installs what is missing.
pub fn servers(workspace: &Workspace) -> Result<()> {
    machine()?;
    peers::install(workspace)
}

/// What comes with the machine.
fn machine() -> Result<()> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    install(&packages)?;
    let packages = missing();
    ensure!(
        packages.is_empty(),
        "these packages do not bring what tests need: {}",
        packages.join(", ")
    );
    Ok(())
}

/// The packages of servers that are not there; those that are, are told.
fn missing() -> Vec<&'static str> {
    let mut packages = Vec::new();
    for server in SERVERS {
        match (server.find)() {
            Ok(place) => println!("{}: {place}", server.name),
            Err(problem) => {
                println!("{}: {problem:#}", server.name);
                packages.push(server.package);
            }
        }
    }
    packages
}

/// Installs packages, as root; anybody else is told what to install.
pub fn install(packages: &[&str]) -> Result<()> {
    let advice = format!("apt-get install {}", packages.join(" "));
    ensure!(
        is_root() && shell::is_installed("apt-get"),
        "tests need programs that are not there; install them: {advice}"
    );
    apt(packages).with_context(|| format!("install it by hand: {advice}"))
}

fn apt(packages: &[&str]) -> Result<()> {
    let apt = || {
        let mut command = Process::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        command
    };
    shell::run(apt().arg("update"))?;
    let install = ["install", "--yes", "--no-install-recommends"];
    shell::run(apt().args(install).args(packages))
}

fn is_root() -> bool {
    shell::read(Process::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn find_postgres() -> Result<String> {
    let installed = fs::read_dir(POSTGRES_PLACES)
        .into_iter()
        .flatten()
        .flatten();
    let installed = installed.map(|entry| entry.path().join("bin"));
    let has_server = |place: &PathBuf| has(place, "initdb") && has(place, "postgres");
    let found = path().chain(installed).find(has_server);
    let found = found.context("there is neither `initdb` nor `postgres`")?;
    ensure!(
        path().any(|place| has(&place, "psql")),
        "there is no `psql`"
    );
    Ok(found.display().to_string())
}

fn find_redis() -> Result<String> {
    if !path().any(|place| has(&place, "redis-server")) {
        bail!("there is no `redis-server`");
    }
    let told = shell::read(Process::new("redis-server").arg("--version"))?;
    let version = redis_version(&told).context("it does not tell its version")?;
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    ensure!(
        major.is_some_and(|major: u32| major >= REDIS),
        "version {version} is too old; {REDIS} or newer is needed"
    );
    Ok(format!("version {version}"))
}

fn find_node() -> Result<String> {
    let told = shell::read(Process::new("node").arg("--version")).context("there is no `node`")?;
    let major = told
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    ensure!(
        major.is_some_and(|major: u32| major >= NODE),
        "version {} is too old; {NODE} or newer is needed",
        told.trim()
    );
    Ok(format!("version {}", told.trim()))
}

/// Reads `Redis server v=7.0.15 sha=…`.
fn redis_version(told: &str) -> Option<&str> {
    told.split_whitespace()
        .find_map(|word| word.strip_prefix("v="))
}

fn path() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

fn has(place: &Path, program: &str) -> bool {
    place.join(program).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_redis_tells() {
        let told = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4";
        assert_eq!(redis_version(told), Some("7.0.15"));
        assert_eq!(redis_version("something else"), None);
    }

    #[test]
    fn every_server_comes_with_a_package_of_its_own() {
        for server in SERVERS {
            let same = SERVERS
                .iter()
                .filter(|other| other.package == server.package);
            assert_eq!(same.count(), 1, "{}", server.name);
        }
    }
}
