//! From what is asked for to what will be done.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    error::{At, Error, Refused, Result, Step},
    files::{self, FileRules},
    filter::{Families, Filter},
    profile::{Isolation, Network, Profile},
    rights,
    spawn::{self, Child},
    support::{Missing, Part, Support},
    sys,
    view::{self, Shown, View},
};

/// The folders that matter to one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Where the program is at home; shown to be read.
    pub code: PathBuf,
    /// What it may change. It must not contain `code`, so that a program cannot change what it will be started as.
    pub work: PathBuf,
    /// Where temporary files go; within a system of its own this is `/tmp`, empty at first.
    pub temp: PathBuf,
    /// The user's home. Within a system of its own it is an empty folder.
    pub home: Option<PathBuf>,
}

/// What will be done to a process before it becomes an agent. It can be sent to the process that does it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Confinement {
    profile: Profile,
    view: Option<View>,
    files: Option<FileRules>,
    filter: Option<Filter>,
    degraded: Vec<Part>,
}

impl Confinement {
    /// Leaves a process as it is.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Decides what to do on a machine with this `support`.
    ///
    /// # Errors
    /// When the machine lacks a part that the profile needs, unless the profile may be degraded; when the wish contradicts
    /// itself; when a folder does not exist.
    pub fn plan(
        isolation: &Isolation,
        places: &Places,
        support: &Support,
        allow_degraded: bool,
    ) -> Result<Self, Refused> {
        if let Some(contradiction) = isolation.contradiction() {
            return Err(Refused::Contradiction(contradiction));
        }
        let needed = isolation.needs();
        let missing = needed.iter().filter_map(|part| support.missing(*part));
        let missing: Vec<Missing> = missing.cloned().collect();
        if !missing.is_empty() && !allow_degraded {
            return Err(Refused::Missing(missing));
        }
        let mut plan = Self {
            profile: isolation.profile,
            degraded: missing.iter().map(|missing| missing.part).collect(),
            ..Self::default()
        };
        if isolation.profile == Profile::Open {
            return Ok(plan);
        }
        let own_view = isolation.profile.has_own_view() && support.has(Part::Namespaces);
        check_code(places, own_view)?;
        if own_view {
            plan.view = Some(view_of(isolation, places)?);
        }
        if support.has(Part::Files) {
            plan.files = Some(plan.file_rules(isolation, places));
        }
        if support.has(Part::Syscalls) {
            plan.filter = plan.filter_for(isolation.network());
        }
        Ok(plan)
    }

    fn file_rules(&self, isolation: &Isolation, places: &Places) -> FileRules {
        match &self.view {
            Some(view) => FileRules::new(view.writable()),
            None => {
                let own = [&places.work, &places.temp];
                FileRules::beside_devices(own.into_iter().chain(&isolation.write))
            }
        }
    }

    fn filter_for(&self, network: Network) -> Option<Filter> {
        let strict = self.profile == Profile::Restricted;
        let walled = self.view.is_some();
        let families = match network {
            // Sockets that lead nowhere do no harm, and some programs want to open one; the strict profile asks for less.
            Network::None if walled && !strict => Families::Usual,
            Network::None => Families::Local,
            // Where the namespace could not be had, nothing is better than the whole network.
            Network::Isolated if !walled => Families::Local,
            Network::Isolated | Network::Host => Families::Usual,
        };
        let dangerous = self.profile.has_own_view();
        let needed = dangerous || families == Families::Local;
        needed.then_some(Filter {
            families,
            dangerous,
            strict,
        })
    }

    /// The profile.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Parts of the profile that are left out, because this machine lacks them and that was allowed.
    #[must_use]
    pub fn degraded(&self) -> &[Part] {
        &self.degraded
    }

    /// Whether the process sees a system of its own. Then it is started with [`Confinement::spawn`].
    #[must_use]
    pub const fn has_own_view(&self) -> bool {
        self.view.is_some()
    }

    /// Whether the process will see this file. The path must be absolute.
    #[must_use]
    pub fn shows(&self, path: &Path) -> bool {
        self.view.as_ref().is_none_or(|view| view.shows(path))
    }

    /// Where temporary files go within a system of its own.
    #[must_use]
    pub fn temp(&self) -> Option<&'static Path> {
        self.view.as_ref().map(|_| Path::new(view::TEMP))
    }

    /// Confines this process, which is to execute the agent next. It must have a single thread.
    ///
    /// # Errors
    /// The step that failed. The process is confined in part then and should end.
    pub fn apply(&self) -> Result<()> {
        if self.view.is_some() {
            let wrong_way = rustix::io::Errno::INVAL;
            return Err(Error::new(Step::Namespaces, wrong_way));
        }
        self.restrict()
    }

    /// Starts a process with a system of its own and lets it execute the agent. This process must have a single thread; it
    /// is not confined itself, and the new one ends when it ends.
    ///
    /// `exec` is to replace the process, and so comes back with an error only. When it is called the process leads a session.
    ///
    /// # Errors
    /// The step that failed; nothing is left then.
    pub fn spawn(&self, exec: impl FnOnce() -> std::io::Error) -> Result<Child> {
        let Some(view) = &self.view else {
            let wrong_way = rustix::io::Errno::INVAL;
            return Err(Error::new(Step::Namespaces, wrong_way));
        };
        spawn::spawn(view, || self.restrict(), exec)
    }

    /// What a process can do to itself.
    fn restrict(&self) -> Result<()> {
        if self.profile == Profile::Open {
            return Ok(());
        }
        sys::close_the_rest_on_exec().at(Step::Leftovers)?;
        rights::give_up()?;
        if let Some(rules) = &self.files {
            files::restrict(rules).at(Step::Files)?;
        }
        if let Some(filter) = &self.filter {
            filter.apply().at(Step::Syscalls)?;
        }
        Ok(())
    }
}

/// An agent must not be able to change how it is started: its manifest names its profile.
fn check_code(places: &Places, own_view: bool) -> Result<(), Refused> {
    let code = canonical(&places.code)?;
    let refused = |path: &Path, what, fix| Refused::Place {
        path: path.to_owned(),
        why: format!(
            "it is {what} and contains the agent's own folder {}, so that the agent could change how it is started; {fix}",
            code.display()
        ),
    };
    if code.starts_with(canonical(&places.work)?) {
        let fix = "choose another work folder, such as one within the agent's";
        return Err(refused(&places.work, "the work folder", fix));
    }
    if !own_view && code.starts_with(canonical(&places.temp)?) {
        let fix = "move the agent, or set TMPDIR to another folder";
        return Err(refused(&places.temp, "the folder for temporary files", fix));
    }
    Ok(())
}

fn view_of(isolation: &Isolation, places: &Places) -> Result<View, Refused> {
    let network = isolation.network();
    let mut shown = Vec::new();
    show(&mut shown, &places.code, false)?;
    for path in &isolation.read {
        show(&mut shown, path, false)?;
    }
    for path in isolation.write.iter().chain([&places.work]) {
        show(&mut shown, path, true)?;
    }
    if network == Network::Host
        && let Ok(source) = Path::new("/etc/resolv.conf").canonicalize()
    {
        shown.push(Shown {
            source,
            target: "/etc/resolv.conf".into(),
            writable: false,
        });
    }
    shown.sort_by_key(|shown| shown.target.components().count());
    Ok(View {
        shown,
        home: places.home.clone().filter(|home| view::can_be_home(home)),
        host_network: network == Network::Host,
        loopback: network == Network::Isolated,
    })
}

/// Shows a place where it is, and also where it is said to be if symbolic links lead there.
fn show(shown: &mut Vec<Shown>, path: &Path, writable: bool) -> Result<(), Refused> {
    let source = canonical(path)?;
    if source.parent().is_none() || source.starts_with("/proc") || source.starts_with("/dev") {
        return Err(Refused::Place {
            path: path.to_owned(),
            why: "the whole system, its devices and its processes stay out of reach; name folders"
                .to_owned(),
        });
    }
    let said =
        std::path::absolute(path).map_or_else(|_| source.clone(), |path| without_dots(&path));
    for target in [&source, &said] {
        shown.push(Shown {
            source: source.clone(),
            target: target.clone(),
            writable,
        });
        if source == said {
            break;
        }
    }
    Ok(())
}

/// The path that is meant where no folder on the way is a link; a link's own parent is shown at its real place.
fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

fn canonical(path: &Path) -> Result<PathBuf, Refused> {
    path.canonicalize().map_err(|error| Refused::Place {
        path: path.to_owned(),
        why: error.to_string(),
    })
}
