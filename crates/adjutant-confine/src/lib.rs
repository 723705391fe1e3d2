//! Isolation of child processes: what a process may see, change and reach.
//!
//! An [`Isolation`] is what people ask for: a [`Profile`] and what belongs to it. [`Confinement::plan`] turns it into what
//! will be done on a machine with a given [`Support`], and refuses what cannot be enforced there. The plan travels to a
//! process of its own with a single thread, which applies it to itself, or starts a process with a system of its own.
//! Linux only.
//!
//! ```
//! use adjutant_confine::{Confinement, Isolation, Places, Profile, Support};
//!
//! let places = Places { code: "/usr".into(), work: "/tmp".into(), temp: "/tmp".into(), home: None };
//! let nothing = Support::none("this is an old kernel");
//! let wish = Isolation::of(Profile::Workspace);
//!
//! let refused = Confinement::plan(&wish, &places, &nothing, false).unwrap_err();
//! assert!(refused.to_string().contains("this is an old kernel"));
//! let degraded = Confinement::plan(&wish, &places, &nothing, true)?;
//! assert!(!degraded.degraded().is_empty());
//! # Ok::<(), adjutant_confine::Refused>(())
//! ```

mod profile;
mod support;

mod plan;
mod view;

mod files;
mod filter;
mod mounts;
mod rights;
mod spawn;
mod sys;

mod error;

pub use crate::{
    error::{Error, Refused, Result, Step},
    plan::{Confinement, Places},
    profile::{Isolation, Network, Profile, UnknownName},
    spawn::{Child, End},
    support::{Missing, Part, Support},
};
