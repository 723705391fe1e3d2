//! `cargo xtask vm`: the process crate's tests under a kernel whose control groups are of version 2, with controllers.
//!
//! Hosts that mount both versions give the controllers to version 1, so that limits on version 2 can be tried nowhere but
//! on another kernel. User-mode Linux is one that any user starts like a program; it sees this machine's files, so that the
//! test binaries run in it as they are. Processes are some ten times slower there: it is no part of CI.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command as Process,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    command::{self, Command},
    servers, shell,
    workspace::Workspace,
};

pub const COMMAND: Command = Command {
    name: "vm",
    args: "",
    summary: "run the tests of adjutant-process under control groups of version 2",
    help: "Boots user-mode Linux, which root has installed with apt-get where it is missing, and runs the tests of process trees \
           and limits in it. Takes about five minutes.",
    run: |workspace, args| {
        command::no_args(args)?;
        vm(workspace)
    },
};

const KERNEL: &str = "linux.uml";
const PACKAGE: &str = "user-mode-linux";

/// Seconds after which something hangs.
const PATIENCE: &str = "1200";

/// Tests, with what their binaries are told. Left out is what measures time, of which the kernel has little, and what is
/// about no control groups.
const TESTS: &[(&str, &str)] = &[
    ("limits", "--skip time_is_limited --skip a_run_fails_with"),
    ("trees", "--skip fifty_that_leave_at_once"),
    ("ownership", ""),
    ("cycles", ""),
    ("killed", "--skip without_control_groups"),
];

/// What all of them are told; fewer rounds than on the machine itself.
const VARIABLES: &str = "ADJUTANT_KILLS=10 ADJUTANT_CYCLES=60 RUST_BACKTRACE=0";

fn vm(workspace: &Workspace) -> Result<()> {
    install()?;
    let binaries = build(workspace)?;
    let folder = workspace.path("target/vm");
    fs::create_dir_all(&folder)?;
    let script = folder.join("init.sh");
    fs::write(&script, init(workspace, &binaries))
        .with_context(|| format!("failed to write {}", script.display()))?;
    shell::run(Process::new("chmod").arg("+x").arg(&script))?;
    let mut seen = Vec::new();
    shell::run_watching(&mut boot(&folder, &script), |line| {
        if let Some(end) = line.trim().strip_prefix("ended: ") {
            seen.push(end.to_owned());
        }
    })?;
    judge(&seen)
}

/// Every test has to have told that it ended well; a kernel that stops half-way tells less.
fn judge(seen: &[String]) -> Result<()> {
    let wanted: Vec<String> = TESTS.iter().map(|(name, _)| format!("{name} 0")).collect();
    let missing: Vec<&String> = wanted.iter().filter(|one| !seen.contains(one)).collect();
    if let Some(first) = missing.first() {
        let name = first.trim_end_matches(" 0");
        bail!(
            "{} of {} did not pass, `{name}` first; its output is above",
            missing.len(),
            TESTS.len()
        );
    }
    Ok(())
}

fn install() -> Result<()> {
    if shell::is_installed(KERNEL) {
        return Ok(());
    }
    servers::install(&[PACKAGE])
}

/// The test binaries by their names.
fn build(workspace: &Workspace) -> Result<Vec<(String, PathBuf)>> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--no-run", "--package", "adjutant-process"]);
    cargo.arg("--message-format=json-render-diagnostics");
    for (name, _) in TESTS {
        cargo.args(["--test", name]);
    }
    let told = shell::read(&mut cargo)?;
    let binaries: Vec<_> = told.lines().filter_map(binary).collect();
    for (name, _) in TESTS {
        ensure!(
            binaries.iter().any(|(built, _)| built == name),
            "there is no test `{name}` in adjutant-process"
        );
    }
    Ok(binaries)
}

/// Reads one of cargo's messages.
fn binary(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_test = message["profile"]["test"] == true;
    let name = message["target"]["name"].as_str()?;
    let path = message["executable"].as_str().filter(|_| is_test)?;
    Some((name.to_owned(), path.into()))
}

/// The first and only program of the machine.
fn init(workspace: &Workspace, binaries: &[(String, PathBuf)]) -> String {
    let mut script = format!(
        "#!/bin/sh\n\
         export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp {VARIABLES}\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t tmpfs tmpfs /tmp\n\
         mount -t tmpfs tmpfs /run\n\
         mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
         echo \"kernel $(uname -r), controllers: $(cat /sys/fs/cgroup/cgroup.controllers)\"\n\
         cd {}\n",
        workspace.path("crates/adjutant-process").display()
    );
    for (name, args) in TESTS {
        let found = binaries.iter().find(|(built, _)| built == name);
        let path = found.map(|(_, path)| path.display().to_string());
        let path = path.unwrap_or_default();
        script.push_str(&format!(
            "{path} --color never --test-threads 1 {args}\necho \"ended: {name} $?\"\n"
        ));
    }
    // Nothing is mounted for writing.
    script.push_str("echo o > /proc/sysrq-trigger\nsleep 10\n");
    script
}

/// The machine: this one's files, its own memory, and the first console for what is told.
fn boot(folder: &Path, init: &Path) -> Process {
    let mut machine = Process::new("timeout");
    machine
        .args(["--foreground", PATIENCE, KERNEL, "mem=768M"])
        .args(["rootfstype=hostfs", "rootflags=/", "ro", "quiet"])
        .args(["con=null", "con0=fd:0,fd:1"])
        .arg(format!("init={}", init.display()))
        .current_dir(folder)
        .stdin(std::process::Stdio::null());
    machine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_binaries_are_taken() {
        let test = r#"{"profile": {"test": true}, "target": {"name": "trees"}, "executable": "/t/trees-1"}"#;
        assert_eq!(
            binary(test),
            Some(("trees".to_owned(), "/t/trees-1".into()))
        );
        assert_eq!(binary(&test.replace("true", "false")), None);
        assert_eq!(binary("not json"), None);
    }

    #[test]
    fn what_did_not_tell_that_it_passed_has_not() {
        let mut seen: Vec<String> = TESTS.iter().map(|(name, _)| format!("{name} 0")).collect();
        assert!(judge(&seen).is_ok());
        seen[1] = "trees 101".to_owned();
        assert!(judge(&seen).is_err_and(|error| error.to_string().contains("`trees`")));
        assert!(judge(&seen[..1]).is_err());
    }
}
