//! The table of commands and the way from arguments to one of them.

use anyhow::{Result, bail};

use crate::{
    bench, ci, codegen, conformance, docs, examples, fmt, layers, lint, model, protocol, servers,
    test, tidy, vm, workspace::Workspace,
};

/// One command of `cargo xtask`.
pub struct Command {
    pub name: &'static str,
    /// What may follow the name, as shown in the help.
    pub args: &'static str,
    pub summary: &'static str,
    /// What `--help` says below the summary.
    pub help: &'static str,
    pub run: fn(&Workspace, &[String]) -> Result<()>,
}

const COMMANDS: &[Command] = &[
    ci::COMMAND,
    fmt::COMMAND,
    lint::COMMAND,
    layers::COMMAND,
    tidy::COMMAND,
    servers::COMMAND,
    test::COMMAND,
    test::DOCTEST,
    conformance::COMMAND,
    protocol::COMMAND,
    model::COMMAND,
    examples::COMMAND,
    docs::COMMAND,
    codegen::COMMAND,
    bench::COMMAND,
    vm::COMMAND,
];

/// Runs the command that `args` begin with, or shows its help.
pub fn dispatch(workspace: &Workspace, args: &[String]) -> Result<()> {
    let Some((name, rest)) = args.split_first() else {
        print!("{}", overview());
        bail!("a command is needed");
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", overview());
        return Ok(());
    }
    let command = find(name)?;
    // Everything after `--` belongs to the program that the command starts.
    let ours = rest.split(|arg| arg == "--").next().unwrap_or_default();
    if ours.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{}", details(command));
        return Ok(());
    }
    (command.run)(workspace, rest)
}

/// Fails when a command that takes no arguments was given some.
pub fn no_args(args: &[String]) -> Result<()> {
    match args.first() {
        None => Ok(()),
        Some(first) => bail!("unexpected argument `{first}`: this command takes none"),
    }
}

/// Reads the one flag that a command knows.
pub fn only_flag(args: &[String], flag: &str) -> Result<bool> {
    match args {
        [] => Ok(false),
        [arg] if arg == flag => Ok(true),
        [arg, ..] => bail!("unexpected argument `{arg}`: this command only knows `{flag}`"),
    }
}

fn find(name: &str) -> Result<&'static Command> {
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => Ok(command),
        None => {
            bail!("there is no command `{name}`; `cargo xtask help` lists those there are")
        }
    }
}

fn overview() -> String {
    let mut text = String::from("Usage: cargo xtask <command> [args]\n\nCommands:\n");
    for command in COMMANDS {
        text.push_str(&format!("  {:<12} {}\n", command.name, command.summary));
    }
    text.push_str("\n`cargo xtask <command> --help` tells more about one of them.\n");
    text
}

fn details(command: &Command) -> String {
    let usage = format!("{} {}", command.name, command.args);
    format!(
        "{}\n\nUsage: cargo xtask {}\n\n{}\n",
        command.summary,
        usage.trim_end(),
        command.help
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_the_overview() {
        for command in COMMANDS {
            let same = COMMANDS.iter().filter(|other| other.name == command.name);
            assert_eq!(same.count(), 1, "{}", command.name);
            assert!(overview().contains(command.summary), "{}", command.name);
        }
    }

    #[test]
    fn an_unknown_command_is_told_where_to_look() {
        let error = find("cy").err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("cargo xtask help")));
    }

    #[test]
    fn a_command_refuses_what_it_does_not_know() {
        let args = [String::from("--chek")];
        assert!(only_flag(&args, "--check").is_err());
        assert!(no_args(&args).is_err());
    }
}
