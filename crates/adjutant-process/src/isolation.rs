//! From the isolation that is asked for to the plan for one process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use adjutant_confine::{Confinement, Isolation, Places, Profile, Support};

use crate::{
    environment::Environment,
    error::{Error, Result},
    helper::Helper,
    port::ProcessSpec,
};

/// The hidden argument for which a helper tells what this machine enforces.
pub(crate) const PROBE: &str = "__probe-isolation";

/// The work folder within the agent's own, unless the manifest names another.
const WORK: &str = "work";

/// Tells a confined agent where its work folder is.
const WORK_VARIABLE: &str = "ADJUTANT_WORK_DIR";

/// Where temporary files go unless the environment says otherwise.
const TEMP: &str = "/tmp";

/// Prints what this machine enforces; what the helper does for [`support`].
#[expect(clippy::print_stdout, reason = "the runtime reads the helper's stdout")]
pub(crate) fn tell_support() -> ExitCode {
    match serde_json::to_string(&Support::probe()) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// What this machine enforces of isolation. It is tried out by a helper, because that takes a process with a single
/// thread; without a helper nothing can be enforced. Blocks for some milliseconds.
#[must_use]
pub fn support(helper: Option<&Helper>) -> Support {
    let Some(helper) = helper else {
        return Support::none("this program cannot start processes through a helper; use `agent`");
    };
    let mut command = helper.command(PROBE);
    let asked = command.stderr(Stdio::null()).current_dir("/").output();
    let told = asked.map(|output| serde_json::from_slice(&output.stdout));
    match told {
        Ok(Ok(support)) => support,
        Ok(Err(error)) => Support::none(&format!("the helper did not tell: {error}")),
        Err(error) => Support::none(&format!("the helper could not be started: {error}")),
    }
}

/// The isolation with paths as they are meant: relative ones begin in the agent's folder, and `~` is the home.
pub(crate) fn absolute(isolation: &Isolation, dir: &Path, env: &Environment) -> Isolation {
    let place = |path: &PathBuf| match (path.strip_prefix("~"), env.get("HOME")) {
        (Ok(rest), Some(home)) => Path::new(home).join(rest),
        _ => dir.join(path),
    };
    Isolation {
        work: isolation.work.as_ref().map(place),
        read: isolation.read.iter().map(place).collect(),
        write: isolation.write.iter().map(place).collect(),
        ..isolation.clone()
    }
}

/// Plans the confinement of a process and tells it where it may write.
pub(crate) fn plan(
    spec: &mut ProcessSpec,
    support: &Support,
    degraded: bool,
) -> Result<Confinement> {
    let profile = spec.isolation.profile;
    let places = places(spec);
    if profile != Profile::Open {
        fs::create_dir_all(&places.work).map_err(|source| Error::WorkFolder {
            dir: places.work.clone(),
            source,
        })?;
        spec.env.set(WORK_VARIABLE, places.work.to_string_lossy());
    }
    let plan = Confinement::plan(&spec.isolation, &places, support, degraded)
        .map_err(|source| Error::Isolation { profile, source })?;
    if let Some(temp) = plan.temp()
        && spec.env.get("TMPDIR").is_some()
    {
        spec.env.set("TMPDIR", temp.to_string_lossy());
    }
    if !plan.degraded().is_empty() {
        let left_out: Vec<&str> = plan.degraded().iter().map(|part| part.name()).collect();
        tracing::warn!(%profile, left_out = left_out.join(", "), "isolation is weaker than it was asked for");
    }
    Ok(plan)
}

fn places(spec: &ProcessSpec) -> Places {
    let work = spec.isolation.work.clone();
    Places {
        code: spec.dir.clone(),
        work: work.unwrap_or_else(|| spec.dir.join(WORK)),
        temp: spec.env.get("TMPDIR").unwrap_or(TEMP).into(),
        home: spec.env.get("HOME").map(PathBuf::from),
    }
}

/// Whether an agent in `dir` will see a file; who sees a system of their own do not see all.
pub(crate) fn shows(isolation: &Isolation, dir: &Path, file: &Path) -> bool {
    let own = isolation
        .read
        .iter()
        .chain(&isolation.write)
        .any(|place| file.starts_with(place));
    own || file.starts_with(dir) || isolation.profile.shows_of_the_system(file)
}
