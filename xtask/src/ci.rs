//! `cargo xtask ci`: every stage in order, up to the first failure.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{
    codegen, command,
    command::Command,
    conformance::conformance_is_there,
    docs::docs,
    examples::examples,
    fmt::fmt,
    layers::layers,
    lint::lint,
    model::model,
    protocol::protocol,
    servers::servers,
    test::{doctest, test},
    tidy::tidy,
    workspace::Workspace,
};

pub const COMMAND: Command = Command {
    name: "ci",
    args: "[--with-model]",
    summary: "exactly what CI runs: all stages, up to the first failure",
    help: "Each stage is a command of its own; the failure says which one to repeat.\n`--with-model` lets a real model \
           drive an agent at the end, which CI does not do.",
    run: |workspace, args| {
        let with_model = command::only_flag(args, "--with-model")?;
        ci(workspace)?;
        if with_model {
            model(workspace)?;
        }
        Ok(())
    },
};

/// One thing that CI insists on.
struct Stage {
    /// What to type after `cargo xtask` to repeat it.
    command: &'static str,
    run: fn(&Workspace) -> Result<()>,
}

/// Cheap looks at the sources come first, so that most mistakes are told within seconds of the first build.
const STAGES: &[Stage] = &[
    Stage {
        command: "fmt --check",
        run: |workspace| fmt(workspace, true),
    },
    Stage {
        command: "layers",
        run: layers,
    },
    Stage {
        command: "tidy",
        run: tidy,
    },
    Stage {
        command: "servers",
        run: servers,
    },
    Stage {
        command: "lint",
        run: lint,
    },
    Stage {
        command: "test",
        run: |workspace| test(workspace, &[]),
    },
    Stage {
        command: "doctest",
        run: doctest,
    },
    Stage {
        command: "conformance",
        run: conformance_is_there,
    },
    Stage {
        command: "protocol",
        run: protocol,
    },
    Stage {
        command: "examples",
        run: examples,
    },
    Stage {
        command: "docs",
        run: docs,
    },
    Stage {
        command: "codegen --check",
        run: codegen::check,
    },
];

fn ci(workspace: &Workspace) -> Result<()> {
    let mut times = Vec::new();
    for stage in STAGES {
        println!("\n=== {} ===", stage.command);
        let start = Instant::now();
        let result = (stage.run)(workspace);
        times.push(start.elapsed());
        if let Err(error) = result {
            eprintln!("\nerror: {error:#}");
            println!("\n{}", table(&times, false));
            bail!("to repeat this stage alone: cargo xtask {}", stage.command);
        }
        println!("--- {} ok in {}", stage.command, seconds(start.elapsed()));
    }
    println!("\n{}", table(&times, true));
    Ok(())
}

/// Every stage with its result and time; `times` holds those that ran, and only the last may have failed.
fn table(times: &[Duration], all_passed: bool) -> String {
    let mut text = format!("{:<16} {:<8} {:>8}\n", "stage", "result", "time");
    for (index, stage) in STAGES.iter().enumerate() {
        let failed = !all_passed && index + 1 == times.len();
        let (result, time) = match times.get(index) {
            None => ("not run", String::new()),
            Some(time) if failed => ("failed", seconds(*time)),
            Some(time) => ("passed", seconds(*time)),
        };
        text.push_str(format!("{:<16} {result:<8} {time:>8}", stage.command).trim_end());
        text.push('\n');
    }
    let failed = usize::from(!all_passed);
    let passed = times.len() - failed;
    text.push_str(&format!("stages: {passed} passed, {failed} failed"));
    text
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_passed_failed_and_not_run_apart() {
        let text = table(
            &[Duration::from_millis(1200), Duration::from_secs(3)],
            false,
        );
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "fmt --check      passed      1.2 s");
        assert_eq!(lines[2], "layers           failed      3.0 s");
        assert_eq!(lines[3], "tidy             not run");
        assert_eq!(lines.last(), Some(&"stages: 1 passed, 1 failed"));
    }

    #[test]
    fn the_last_line_counts_every_stage_that_passed() {
        let text = table(&[Duration::ZERO; STAGES.len()], true);
        let last = format!("stages: {} passed, 0 failed", STAGES.len());
        assert_eq!(text.lines().last(), Some(last.as_str()));
    }
}
