//! How much an agent may do, in words that people write.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{support::Part, view::View};

/// How far a process is kept from the machine it runs on.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Not at all: it may do what the runtime's user may do.
    #[default]
    Open,
    /// It reads what the user can read, and writes only to its work folder and the folder for temporary files.
    Workspace,
    /// It sees a system of its own: the system's programs and libraries to read, its work folder, no other process, no
    /// network.
    Isolated,
    /// As `Isolated`, with only the system calls that ordinary programs need.
    Restricted,
}

impl Profile {
    /// All profiles, from the most permissive to the strictest.
    pub const ALL: [Self; 4] = [
        Self::Open,
        Self::Workspace,
        Self::Isolated,
        Self::Restricted,
    ];

    /// The profile's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Workspace => "workspace",
            Self::Isolated => "isolated",
            Self::Restricted => "restricted",
        }
    }

    /// What a process of this profile reaches when nobody says otherwise.
    #[must_use]
    pub const fn default_network(self) -> Network {
        match self {
            Self::Open | Self::Workspace => Network::Host,
            Self::Isolated | Self::Restricted => Network::None,
        }
    }

    /// Whether processes of this profile see this file of the machine, when nothing more is shown to them. The path must
    /// be absolute.
    #[must_use]
    pub fn shows_of_the_system(self, file: &Path) -> bool {
        !self.has_own_view() || View::empty().shows(file)
    }

    /// Whether processes of this profile see a system of their own.
    pub(crate) const fn has_own_view(self) -> bool {
        matches!(self, Self::Isolated | Self::Restricted)
    }
}

/// What a process reaches by network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nothing.
    None,
    /// What the machine reaches.
    Host,
    /// Itself and its own children, by a loopback interface of its own.
    Isolated,
}

impl Network {
    /// All kinds of network.
    pub const ALL: [Self; 3] = [Self::None, Self::Host, Self::Isolated];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Host => "host",
            Self::Isolated => "isolated",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is none of {known}")]
pub struct UnknownName {
    /// The name.
    name: String,
    /// What it could have been.
    known: String,
}

impl UnknownName {
    fn new(name: &str, known: &[&str]) -> Self {
        let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        Self {
            name: name.to_owned(),
            known: known.join(", "),
        }
    }
}

impl FromStr for Profile {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|known| known.name() == name);
        found.ok_or_else(|| UnknownName::new(name, &Self::ALL.map(Self::name)))
    }
}

impl FromStr for Network {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|known| known.name() == name);
        found.ok_or_else(|| UnknownName::new(name, &Self::ALL.map(Self::name)))
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Isolation {
    /// How far to keep the process away.
    pub profile: Profile,
    /// What it reaches by network; by default what the profile says.
    #[serde(skip)]
    pub network: Option<Network>,
    /// The folder that it may change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work: Option<PathBuf>,
    /// Further files and folders that it sees, beyond the system's and its own. Of use where it sees little.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<PathBuf>,
    /// Further files and folders that it may change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<PathBuf>,
}

impl Isolation {
    /// A profile with what belongs to it.
    #[must_use]
    pub fn of(profile: Profile) -> Self {
        Self {
            profile,
            ..Self::default()
        }
    }

    /// What the process reaches by network.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network.unwrap_or(self.profile.default_network())
    }

    /// The parts of a machine without which this would be another isolation.
    #[must_use]
    pub fn needs(&self) -> &'static [Part] {
        match self.profile {
            Profile::Open => &[],
            Profile::Workspace if self.network() == Network::Host => &[Part::Files],
            Profile::Workspace => &[Part::Files, Part::Syscalls],
            Profile::Isolated | Profile::Restricted => &[Part::Namespaces, Part::Syscalls],
        }
    }

    /// Why this cannot be had anywhere, if so.
    #[must_use]
    pub fn contradiction(&self) -> Option<String> {
        let (profile, network) = (self.profile, self.network());
        match (profile, network) {
            (_, Network::Host) | (Profile::Isolated | Profile::Restricted, _) => None,
            (Profile::Workspace, Network::None) => None,
            (Profile::Workspace, Network::Isolated) => Some(
                "`network: isolated` needs a system of its own: choose `isolation: isolated`, or `network: none`".to_owned(),
            ),
            (Profile::Open, network) => Some(format!(
                "`network: {network}` cannot be enforced on a process that is not confined: choose `isolation: \
                 workspace` or a stricter one"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        for network in Network::ALL {
            assert_eq!(network.to_string().parse(), Ok(network));
        }
        let error = "closed".parse::<Profile>().unwrap_err().to_string();
        assert!(error.contains("`closed`") && error.contains("`workspace`"));
    }

    #[test]
    fn a_network_that_cannot_be_enforced_is_a_contradiction() {
        let with = |profile, network| Isolation {
            network: Some(network),
            ..Isolation::of(profile)
        };
        for (profile, network, possible) in [
            (Profile::Open, Network::Host, true),
            (Profile::Open, Network::None, false),
            (Profile::Open, Network::Isolated, false),
            (Profile::Workspace, Network::Host, true),
            (Profile::Workspace, Network::None, true),
            (Profile::Workspace, Network::Isolated, false),
            (Profile::Isolated, Network::Host, true),
            (Profile::Isolated, Network::Isolated, true),
            (Profile::Restricted, Network::None, true),
        ] {
            let found = with(profile, network).contradiction();
            assert_eq!(found.is_none(), possible, "{profile} {network}: {found:?}");
        }
    }
}
