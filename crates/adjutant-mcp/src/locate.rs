//! From the program that a configuration names to a file.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use adjutant_process::Environment;

/// Where a variable's value comes from: the runtime's own environment, as the caller has it.
pub type Lookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Folders that are looked through last; `~` is the home.
const WELL_KNOWN: &[&str] = &[
    "~/.local/bin",
    "~/.cargo/bin",
    "~/bin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/usr/bin",
];

/// Finds a program: with a slash it is a path relative to `dir` (or the home, after `~`); else the variable `NAME_PATH`
/// may name its file, then it is looked for in `PATH`, then in well-known folders.
pub(crate) fn find(
    program: &str,
    dir: &Path,
    env: &Environment,
    lookup: &Lookup,
) -> Result<PathBuf, String> {
    let home = env.get("HOME").map(PathBuf::from);
    if program.contains('/') {
        let file = at_home(program, home.as_deref()).unwrap_or_else(|| dir.join(program));
        return executable(&file, program);
    }
    let variable = variable_of(program);
    if let Some(file) = lookup(&variable).filter(|file| !file.is_empty()) {
        return executable(&dir.join(&file), program).map_err(|problem| {
            format!("{problem}; the variable `{variable}` says that it is there")
        });
    }
    let path = env.get("PATH").unwrap_or_default().split(':');
    let known = WELL_KNOWN.iter().copied();
    let found = path
        .chain(known)
        .filter(|folder| !folder.is_empty())
        .map(|folder| at_home(folder, home.as_deref()).unwrap_or_else(|| PathBuf::from(folder)))
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file));
    found.ok_or_else(|| {
        format!(
            "program `{program}` was found neither in PATH nor in {}; install it, write its path as `command`, or set \
             `{variable}`",
            WELL_KNOWN.join(", ")
        )
    })
}

/// `cortex-mcp` -> `CORTEX_MCP_PATH`.
fn variable_of(program: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = program.to_ascii_uppercase().chars().map(plain).collect();
    format!("{name}_PATH")
}

fn at_home(path: &str, home: Option<&Path>) -> Option<PathBuf> {
    Some(home?.join(path.strip_prefix("~/")?))
}

fn executable(file: &Path, program: &str) -> Result<PathBuf, String> {
    if is_executable(file) {
        // Absolute, because the child changes its folder before it looks for the program.
        return Ok(std::path::absolute(file).unwrap_or_else(|_| file.to_owned()));
    }
    let problem = if file.exists() {
        "is no executable file"
    } else {
        "does not exist"
    };
    Err(format!("program `{program}` {problem}: {}", file.display()))
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tool(folder: &Path) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let file = folder.join("my-tool");
        fs::write(&file, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    #[test]
    fn a_program_is_found_by_path_variable_search_path_and_home_in_this_order() {
        let dir = tempfile::tempdir().unwrap();
        let [explicit, named, on_path, home] =
            ["a", "b", "c", "home/.local/bin"].map(|folder| tool(&dir.path().join(folder)));
        let mut env = Environment::default();
        env.set("HOME", dir.path().join("home").to_string_lossy());
        let nothing: Lookup = Arc::new(|_| None);
        let find = |program: &str, env: &Environment, lookup: &Lookup| {
            find(program, dir.path(), env, lookup)
        };

        assert_eq!(find("my-tool", &env, &nothing).unwrap(), home);
        env.set("PATH", dir.path().join("c").to_string_lossy());
        assert_eq!(find("my-tool", &env, &nothing).unwrap(), on_path);
        let value = named.to_string_lossy().into_owned();
        let lookup: Lookup = Arc::new(move |name| (name == "MY_TOOL_PATH").then(|| value.clone()));
        assert_eq!(find("my-tool", &env, &lookup).unwrap(), named);
        assert_eq!(find("a/my-tool", &env, &lookup).unwrap(), explicit);
    }

    #[test]
    fn a_missing_program_is_named_with_a_fix() {
        let nothing: Lookup = Arc::new(|_| None);
        let env = Environment::default();
        let error = find("no-such-tool", Path::new("/"), &env, &nothing).unwrap_err();
        assert!(error.contains("NO_SUCH_TOOL_PATH"), "{error}");
        let elsewhere: Lookup = Arc::new(|_| Some("/nowhere/x".into()));
        let error = find("no-such-tool", Path::new("/"), &env, &elsewhere).unwrap_err();
        assert!(error.contains("/nowhere/x"), "{error}");
    }
}
