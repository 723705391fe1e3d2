//! The limits that the kernel keeps for each process.

use std::io;

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::Limits;

/// What to set, worked out beforehand: applying it allocates nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rlimits([(Resource, Option<u64>); 3]);

impl Rlimits {
    pub(crate) fn of(limits: &Limits) -> Self {
        let bytes = |size: crate::units::ByteSize| size.0 as u64;
        Self([
            (Resource::Nofile, limits.files.map(|files| files.get())),
            (Resource::Fsize, limits.file_size.map(bytes)),
            // A dump shows all that was in memory, secrets too.
            (Resource::Core, Some(limits.core.map_or(0, bytes))),
        ])
    }

    /// Sets them for this process and what it starts.
    pub(crate) fn apply(&self) -> io::Result<()> {
        for (resource, wanted) in self.0 {
            let Some(wanted) = wanted else { continue };
            match setrlimit(resource, exactly(wanted)) {
                // Nobody may raise what is set for good, and even root may lack the right: as much as there is, then.
                Err(Errno::PERM) => {
                    let hard = getrlimit(resource).maximum.unwrap_or(wanted);
                    setrlimit(resource, exactly(wanted.min(hard)))?;
                }
                other => other?,
            }
        }
        Ok(())
    }
}

const fn exactly(value: u64) -> Rlimit {
    Rlimit {
        current: Some(value),
        maximum: Some(value),
    }
}
