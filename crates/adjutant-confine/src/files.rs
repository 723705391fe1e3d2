//! Which files a process may change, by Landlock.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use serde::{Deserialize, Serialize};

/// The first version that knows of every way to change a file's content (Linux 6.2).
const CHANGES: ABI = ABI::V3;

/// The first version that keeps processes from signalling others (Linux 6.12).
const SCOPES: ABI = ABI::V6;

/// Devices that programs write to without changing anything. Shared memory is one of them because locks and queues
/// between a program's own processes are files there.
const HARMLESS: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/shm",
];

/// What may be changed; all else may not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRules {
    write: Vec<PathBuf>,
}

impl FileRules {
    /// Only these.
    pub(crate) fn new(write: Vec<PathBuf>) -> Self {
        Self { write }
    }

    /// These, and what is harmless in the machine's `/dev`.
    pub(crate) fn beside_devices<'a>(write: impl Iterator<Item = &'a PathBuf>) -> Self {
        let harmless = HARMLESS.iter().map(PathBuf::from);
        Self::new(write.cloned().chain(harmless).collect())
    }
}

/// All that changes a file or folder, except making devices, which nobody is allowed.
fn changes() -> BitFlags<AccessFs> {
    AccessFs::from_write(CHANGES) & !(AccessFs::MakeBlock | AccessFs::MakeChar)
}

/// Restricts this process, and keeps it from signalling others and from their abstract sockets where the kernel can.
pub(crate) fn restrict(rules: &FileRules) -> std::io::Result<()> {
    match try_restrict(rules) {
        Ok(RulesetStatus::NotEnforced) => Err(rustix::io::Errno::NOSYS.into()),
        Ok(_) => Ok(()),
        Err(error) => Err(io_error(&error)),
    }
}

fn try_restrict(rules: &FileRules) -> Result<RulesetStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_write(CHANGES))?
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::from_all(SCOPES))?
        .create()?;
    for path in &rules.write {
        // What does not exist cannot be changed either.
        let Ok(file) = PathFd::new(path) else {
            continue;
        };
        ruleset = ruleset.add_rule(PathBeneath::new(file, changes()))?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

/// The operating system's part of an error.
fn io_error(error: &RulesetError) -> std::io::Error {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<std::io::Error>()
            && let Some(errno) = found.raw_os_error()
        {
            return std::io::Error::from_raw_os_error(errno);
        }
        next = error.source();
    }
    rustix::io::Errno::NOTSUP.into()
}

/// Why there are no rules for files here, if so.
pub(crate) fn why_no_rules() -> Option<String> {
    let asked = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_write(CHANGES))
        .and_then(Ruleset::create);
    let fix = "boot Linux 6.2 or newer with `landlock` among the `lsm=` modules";
    asked.err().map(|error| format!("{error}; {fix}"))
}

/// Why there are no scopes here, if so.
pub(crate) fn why_no_scopes() -> Option<String> {
    let asked = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .scope(Scope::from_all(SCOPES))
        .and_then(Ruleset::create);
    asked
        .err()
        .map(|error| format!("{error}; boot Linux 6.12 or newer"))
}
