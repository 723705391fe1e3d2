//! The system that a process with its own view sees: the machine's programs and libraries, and what belongs to it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Folders of programs and libraries, shown to be read.
pub(crate) const SYSTEM: &[&str] = &[
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix",
];

/// What programs read from `/etc`: how names are found, which certificates to trust, where libraries are. The rest of it
/// holds passwords and keys, which root may read and an agent that root started must not.
pub(crate) const SETTINGS: &[&str] = &[
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/java-17-openjdk",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/protocols",
    "/etc/python3",
    "/etc/python3.11",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
    "/etc/xdg",
];

/// Where temporary files go within a view.
pub(crate) const TEMP: &str = "/tmp";

/// A file or folder that is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// Where it is, without symbolic links.
    pub(crate) source: PathBuf,
    /// Where it is seen.
    pub(crate) target: PathBuf,
    /// Whether it may be changed.
    pub(crate) writable: bool,
}

/// What a process sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct View {
    /// Beyond the system: outer folders before inner ones.
    pub(crate) shown: Vec<Shown>,
    /// Where the user's home is: an empty folder of its own.
    pub(crate) home: Option<PathBuf>,
    /// Whether it keeps the machine's network.
    pub(crate) host_network: bool,
    /// Whether a network of its own has a loopback interface.
    pub(crate) loopback: bool,
}

impl View {
    /// Of a system without anything of its own.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// Whether a file is seen.
    pub(crate) fn shows(&self, path: &Path) -> bool {
        let system = SYSTEM.iter().any(|folder| path.starts_with(folder));
        system
            || self
                .shown
                .iter()
                .any(|shown| path.starts_with(&shown.target))
    }

    /// Everything that may be changed.
    pub(crate) fn writable(&self) -> Vec<PathBuf> {
        let shown = self.shown.iter().filter(|shown| shown.writable);
        let own = [Some(TEMP.into()), self.home.clone(), Some("/dev".into())];
        own.into_iter()
            .flatten()
            .chain(shown.map(|shown| shown.target.clone()))
            .collect()
    }
}

/// Whether a folder can be the home within a view: an empty one is put there.
pub(crate) fn can_be_home(path: &Path) -> bool {
    let system = SYSTEM.iter().any(|folder| path.starts_with(folder));
    let reserved = ["/dev", "/proc", "/etc"]
        .iter()
        .any(|folder| path.starts_with(folder));
    path.is_absolute() && path.parent().is_some() && !system && !reserved && path != Path::new(TEMP)
}
