//! `cargo xtask examples`: every example runs as its reader would run it.
//!
//! An example proves itself with `examples/NAME/check.sh` or `examples/agents/NAME/check.sh`. It gets the built binary in `AGENT_BIN`, the folder with
//! the binaries of the examples in `EXAMPLE_BIN_DIR`, and a folder of its own in `TMPDIR`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command as Process, ExitStatus, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use crate::{
    command::{self, Command},
    shell,
    workspace::Workspace,
};

pub const COMMAND: Command = Command {
    name: "examples",
    args: "",
    summary: "build the binary and run every examples/*/check.sh",
    help: "A check finds the binary in AGENT_BIN, binaries of examples in EXAMPLE_BIN_DIR, and a folder of its own in \
           TMPDIR.\nThe folder of a failed check is kept, with what it printed in output.log.",
    run: |workspace, args| {
        command::no_args(args)?;
        examples(workspace)
    },
};

/// The longest that a check may take; what takes longer hangs.
const LIMIT_SECONDS: &str = "180";

/// What `timeout` ends with when the limit was reached.
const TIMED_OUT: i32 = 124;

/// Runs every example's check and reports all of them.
pub fn examples(workspace: &Workspace) -> Result<()> {
    let checks = find_checks(workspace)?;
    ensure!(
        !checks.is_empty(),
        "no examples/*/check.sh found: the examples prove nothing"
    );
    ensure!(
        shell::is_installed("timeout"),
        "`timeout` is missing: install GNU coreutils"
    );
    let binaries = build(workspace)?;
    let mut failed = 0;
    for name in &checks {
        let start = Instant::now();
        let (verdict, passed) = match check(workspace, name, &binaries)? {
            None => (String::from("passed"), true),
            Some(reason) => (reason, false),
        };
        println!(
            "example {name}: {verdict} ({:.1} s)",
            start.elapsed().as_secs_f64()
        );
        failed += usize::from(!passed);
    }
    println!(
        "examples: {} passed, {failed} failed",
        checks.len() - failed
    );
    ensure!(failed == 0, "{failed} of {} examples failed", checks.len());
    Ok(())
}

/// The names of the examples that have a check.
fn find_checks(workspace: &Workspace) -> Result<Vec<String>> {
    let files = workspace.files()?;
    let name = |file: &String| {
        let name = file.strip_prefix("examples/")?.strip_suffix("/check.sh")?;
        let by_itself = name.strip_prefix("agents/").unwrap_or(name);
        (!by_itself.contains('/')).then(|| name.to_owned())
    };
    Ok(files.iter().filter_map(name).collect())
}

/// Builds the binary and the examples written in Rust; returns the folder they are in.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut command = workspace.cargo();
    // With the default features: this is what a newcomer builds.
    command.args(["build", "--bins", "-p", "adjutant-cli"]);
    for package in workspace.packages()? {
        if package.manifest.starts_with("examples/") {
            command.args(["-p", &package.name]);
        }
    }
    shell::run(&mut command)?;
    Ok(workspace.target_dir()?.join("debug"))
}

/// Runs one check; returns why it failed, if it did.
fn check(workspace: &Workspace, name: &str, binaries: &Path) -> Result<Option<String>> {
    let folder = private_folder(name)?;
    let log = folder.join("output.log");
    let failed = || format!("failed to run the check of example {name}");
    let status = start(workspace, name, binaries, &folder, &log).with_context(failed)?;
    if status.success() {
        fs::remove_dir_all(&folder).with_context(failed)?;
        return Ok(None);
    }
    println!(
        "{}",
        String::from_utf8_lossy(&fs::read(&log).with_context(failed)?)
    );
    let why = match status.code() {
        Some(TIMED_OUT) => format!("took longer than {LIMIT_SECONDS} s"),
        _ => format!("ended with {status}"),
    };
    Ok(Some(format!(
        "failed: {why}; its files are in {}",
        folder.display()
    )))
}

fn start(
    workspace: &Workspace,
    name: &str,
    binaries: &Path,
    folder: &Path,
    log: &Path,
) -> Result<ExitStatus> {
    // A file and not a pipe: a process that outlives the check must not keep us waiting for its end.
    let output = File::create(log)?;
    let status = Process::new("timeout")
        .args(["--kill-after=10", LIMIT_SECONDS, "bash", "check.sh"])
        .current_dir(workspace.path("examples").join(name))
        .env("AGENT_BIN", binaries.join("agent"))
        .env("EXAMPLE_BIN_DIR", binaries)
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stderr(output.try_clone()?)
        .stdout(output)
        .status()?;
    Ok(status)
}

/// An empty folder with a short path: sockets may be put in it, and their paths are limited to about 100 bytes.
fn private_folder(name: &str) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!(
        "adj-{}-{}",
        name.replace('/', "-"),
        std::process::id()
    ));
    fs::create_dir_all(&folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_gets_its_surroundings_and_its_failure_is_kept() {
        let root = private_folder("examples-test").unwrap();
        let example = |name: &str, script: &str| {
            let folder = root.join("examples").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("check.sh"), script).unwrap();
        };
        example(
            "good",
            "test -f check.sh && test \"$AGENT_BIN\" = bin/agent && touch \"$TMPDIR/mine\"\n",
        );
        example("bad", "echo oh no; exit 3\n");

        let workspace = Workspace::at(&root);
        assert_eq!(find_checks(&workspace).unwrap(), ["bad", "good"]);
        assert_eq!(check(&workspace, "good", Path::new("bin")).unwrap(), None);
        let reason = check(&workspace, "bad", Path::new("bin")).unwrap().unwrap();
        assert!(
            reason.starts_with("failed: ended with exit status: 3"),
            "{reason}"
        );

        let kept = private_folder("bad").unwrap();
        assert_eq!(
            fs::read_to_string(kept.join("output.log")).unwrap(),
            "oh no\n"
        );
        fs::remove_dir_all(kept).unwrap();
        fs::remove_dir_all(root).unwrap();
    }
}
