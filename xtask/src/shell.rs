//! Starting other programs, with a line that says which.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Runs a command to its end with its output going where ours goes; fails when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let line = announce(command)?;
    let status = command
        .status()
        .with_context(|| format!("failed to start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Like [`run`], and hands every line of standard output to `see` as well as to the reader.
pub fn run_watching(command: &mut Command, mut see: impl FnMut(&str)) -> Result<()> {
    let line = announce(command)?;
    let failed = || format!("failed to run `{line}`");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(failed)?;
    if let Some(stdout) = child.stdout.take() {
        for output in BufReader::new(stdout).lines() {
            let output = output.with_context(failed)?;
            println!("{output}");
            see(&output);
        }
    }
    let status = child.wait().with_context(failed)?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Runs a command quietly and returns its standard output; its standard error goes where ours goes.
pub fn read(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("failed to start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` ended with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed invalid UTF-8"))
}

/// Whether a program can be started here at all.
pub fn is_installed(program: &str) -> bool {
    let quiet = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

fn announce(command: &Command) -> Result<String> {
    let line = describe(command);
    println!("$ {line}");
    // The child writes to the same place: what we have to say comes first.
    std::io::stdout()
        .flush()
        .context("failed to write to standard output")?;
    Ok(line)
}

/// The command as one would type it, with the variables set for it in front.
fn describe(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(key, value)| Some(format!("{}={}", key.display(), value?.display())))
        .collect();
    words.push(match command.get_program().to_str() {
        // Cargo tells its children the full path of itself; a reader types the short name.
        Some(path) if path.ends_with("/cargo") => String::from("cargo"),
        _ => command.get_program().display().to_string(),
    });
    words.extend(command.get_args().map(|arg| arg.display().to_string()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_with_its_variables() {
        let mut command = Command::new("false");
        command.env("LEVEL", "3").arg("now");
        let error = run(&mut command).err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.starts_with("`LEVEL=3 false now` ended with")));
    }

    #[test]
    fn watching_sees_every_line() {
        let mut seen = Vec::new();
        let mut command = Command::new("printf");
        command.arg("one\ntwo\n");
        run_watching(&mut command, |line| seen.push(line.to_owned())).unwrap();
        assert_eq!(seen, ["one", "two"]);
    }

    #[test]
    fn a_missing_program_is_not_installed() {
        assert!(!is_installed("no-such-program-here"));
    }
}
