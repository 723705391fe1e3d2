//! From the program that a manifest names to a file.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use adjutant_confine::Isolation;

use crate::{
    error::{Error, Result},
    isolation,
};

/// Finds `program`: with a slash relative to `dir`, else in the folders of `search_path` that the isolation shows.
pub(crate) fn find(
    program: &str,
    dir: &Path,
    search_path: Option<&str>,
    isolation: &Isolation,
) -> Result<PathBuf> {
    if !dir.is_dir() {
        return Err(Error::NoFolder {
            dir: dir.to_owned(),
        });
    }
    if program.contains('/') {
        let file = in_folder(program, dir)?;
        return if isolation::shows(isolation, dir, &file) {
            Ok(file)
        } else {
            Err(hidden(program, &file, isolation))
        };
    }
    let folders = search_path.unwrap_or_default().split(':');
    let found: Vec<PathBuf> = folders
        .filter(|folder| !folder.is_empty())
        .map(|folder| Path::new(folder).join(program))
        .filter(|file| is_executable(file))
        .collect();
    let shown = found
        .iter()
        .find(|file| isolation::shows(isolation, dir, file));
    match (shown, found.first()) {
        (Some(file), _) => Ok(file.clone()),
        (None, Some(file)) => Err(hidden(program, file, isolation)),
        (None, None) => Err(Error::ProgramNotFound {
            program: program.to_owned(),
            problem: format!(
                "program `{program}` was not found in PATH; install it, or name its file in `command`, such as \
                 `./{program}` for one beside the manifest"
            ),
        }),
    }
}

fn hidden(program: &str, file: &Path, isolation: &Isolation) -> Error {
    Error::ProgramNotFound {
        program: program.to_owned(),
        problem: format!(
            "program `{program}` is {}, which `isolation: {}` does not show; add the folder of all that it needs to \
             `isolation.read`, or install it for the whole system",
            file.display(),
            isolation.profile
        ),
    }
}

fn in_folder(program: &str, dir: &Path) -> Result<PathBuf> {
    // Absolute, because the child changes its folder before it looks for the program.
    let file = std::path::absolute(dir.join(program)).unwrap_or_else(|_| dir.join(program));
    if is_executable(&file) {
        return Ok(file);
    }
    let file = file.display();
    let problem = if Path::new(&file.to_string()).exists() {
        format!(
            "program `{program}` is no executable file: {file}; `chmod +x` it, or name its interpreter first"
        )
    } else {
        format!("program `{program}` does not exist: {file}; build it first, or correct `command`")
    };
    Err(Error::ProgramNotFound {
        program: program.to_owned(),
        problem,
    })
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use adjutant_confine::Profile;

    use super::*;

    fn problem(program: &str, dir: &Path, path: Option<&str>) -> String {
        find(program, dir, path, &Isolation::default())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_missing_program_is_named_with_a_fix() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("plain.py"), "").unwrap();
        assert!(problem("nosuch", dir.path(), Some("/bin:/usr/bin")).contains("install it"));
        assert!(problem("sh", dir.path(), None).contains("not found in PATH"));
        assert!(problem("./nosuch", dir.path(), None).contains("build it first"));
        assert!(problem("./plain.py", dir.path(), None).contains("chmod +x"));
        assert!(problem("sh", &dir.path().join("none"), None).contains("folder"));
    }

    #[test]
    fn a_slash_means_relative_to_the_folder_and_none_means_the_search_path() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tool");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            find("./tool", dir.path(), None, &Isolation::default()).unwrap(),
            dir.path().join("./tool")
        );
        let path = dir.path().to_str();
        let open = Isolation::default();
        assert_eq!(find("tool", Path::new("/"), path, &open).unwrap(), file);
        assert!(find("tool", dir.path(), Some("/nowhere:"), &open).is_err());
    }

    #[test]
    fn who_does_not_see_a_program_does_not_get_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sh");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut isolation = Isolation::of(Profile::Isolated);
        let path = format!("{}:/bin", dir.path().display());
        let elsewhere = Path::new("/usr");
        let found = find("sh", elsewhere, Some(&path), &isolation);
        assert_eq!(found.unwrap(), Path::new("/bin/sh"));
        for (program, path) in [("sh", dir.path().to_str()), (file.to_str().unwrap(), None)] {
            let hidden = find(program, elsewhere, path, &isolation).unwrap_err();
            assert!(hidden.to_string().contains("`isolation.read`"), "{hidden}");
        }
        isolation.read.push(dir.path().to_owned());
        assert_eq!(
            find("sh", elsewhere, Some(&path), &isolation).unwrap(),
            file
        );
    }
}
