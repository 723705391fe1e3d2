//! How commands confine agents beyond what manifests say.

use adjutant::process::{Manifest, Profile};
use clap::Args;

/// Flags of commands that start agents.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct IsolationFlags {
    /// Confine all agents by this profile, whatever their manifests say: open, workspace, isolated, restricted
    #[arg(long, value_name = "PROFILE")]
    isolation: Option<Profile>,
    /// Start agents with less isolation than they ask for where this machine cannot enforce it
    #[arg(long)]
    pub allow_degraded: bool,
}

impl IsolationFlags {
    /// Whether a profile was named.
    pub const fn confines(self) -> bool {
        self.isolation.is_some()
    }

    /// Puts the profile in the manifest's place.
    pub fn apply(self, manifest: &mut Manifest) {
        if let Some(profile) = self.isolation {
            manifest.isolation.profile = profile;
        }
    }
}
