//! Which workers of this store live on this machine: a small file each, beside the store.
//!
//! The store itself trusts leases only. These files tell a person sooner and more exactly what is going on: whether the
//! process that held a run is dead, and whether somebody is there to take a run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use adjutant::core::{RunId, WorkerId};
use serde::{Deserialize, Serialize};

use crate::project::STATE_DIR;

/// What a worker tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerNote {
    pub worker: WorkerId,
    pub pid: u32,
    /// When the process started, in clock ticks since boot: tells it from a later process with its number.
    pub started: u64,
    /// Which boot of which machine, and which container in it.
    pub boot: String,
    /// The agents it serves.
    pub agents: Vec<String>,
    /// The run it was started for, if for one.
    pub run: Option<RunId>,
}

/// Whether a worker is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Alive,
    Dead,
    /// It is not of this machine, or never left a note.
    Unknown,
}

/// The folder of notes beside a store's file.
pub fn folder(database: &Path) -> PathBuf {
    let parent = database.parent().unwrap_or(Path::new("."));
    if parent.file_name().is_some_and(|name| name == STATE_DIR) {
        return parent.join("workers");
    }
    let mut name = database.as_os_str().to_owned();
    name.push(".workers");
    PathBuf::from(name)
}

/// The folder of notes within a project for a store that a server keeps.
pub fn folder_for_server(state_dir: &Path, url: &str) -> PathBuf {
    let mark = adjutant::Json::from(serde_json::json!(url)).fingerprint().0;
    state_dir.join(format!("workers-{mark:016x}"))
}

/// How long the notes of dead workers are kept: longer than any lease that they may have held.
const KEEP_DEAD: Duration = Duration::from_secs(3600);

/// A note that was left. It stays when the worker ends in any other way than by giving back all it held: a lease
/// without a note would pass for that of a living worker elsewhere.
#[derive(Debug)]
pub struct Posted {
    path: PathBuf,
}

impl Posted {
    /// Takes the note away.
    pub fn remove(self) {
        // A note that stays behind names a dead process and does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

/// Leaves a note, and clears away old ones of the dead.
pub fn post(
    folder: &Path,
    worker: WorkerId,
    agents: Vec<String>,
    run: Option<RunId>,
) -> io::Result<Posted> {
    fs::create_dir_all(folder)?;
    clear(folder);
    let pid = std::process::id();
    let note = WorkerNote {
        worker,
        pid,
        started: start_time(pid).unwrap_or_default(),
        boot: boot_id(),
        agents,
        run,
    };
    let path = folder.join(format!("{worker}.json"));
    fs::write(&path, serde_json::to_vec(&note)?)?;
    Ok(Posted { path })
}

fn clear(folder: &Path) {
    for note in notes(folder)
        .iter()
        .filter(|note| note.life() != Life::Alive)
    {
        let path = folder.join(format!("{}.json", note.worker));
        let age = fs::metadata(&path)
            .and_then(|data| data.modified())
            .ok()
            .and_then(|written| written.elapsed().ok());
        if age.is_some_and(|age| age > KEEP_DEAD) {
            let _ = fs::remove_file(path);
        }
    }
}

/// All notes of the folder.
pub fn notes(folder: &Path) -> Vec<WorkerNote> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| fs::read(entry.ok()?.path()).ok())
        .filter_map(|text| serde_json::from_slice(&text).ok())
        .collect()
}

impl WorkerNote {
    /// Whether the worker is there.
    pub fn life(&self) -> Life {
        if self.boot != boot_id() {
            // Another boot of this machine is dead, another machine may live; nothing here tells which it is.
            return Life::Unknown;
        }
        match start_time(self.pid) {
            Some(started) if started == self.started => Life::Alive,
            _ => Life::Dead,
        }
    }
}

/// Whether the worker with this id is there.
pub fn life_of(notes: &[WorkerNote], worker: WorkerId) -> Life {
    let note = notes.iter().find(|note| note.worker == worker);
    note.map_or(Life::Unknown, WorkerNote::life)
}

/// Field 22 of /proc/PID/stat. The second field is a name in parentheses that may itself hold spaces and
/// parentheses, so counting begins behind the last one.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    // A zombie has a start time too, but does nothing any more.
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// This boot of this machine, and where in it process numbers mean what they mean here: containers count for themselves.
fn boot_id() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let numbers = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), numbers.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_alive_as_long_as_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let worker = WorkerId::new();
        let posted = post(dir.path(), worker, vec!["a".to_owned()], None).unwrap();
        let mut left = notes(dir.path());
        assert_eq!(life_of(&left, worker), Life::Alive);
        assert_eq!(life_of(&left, WorkerId::new()), Life::Unknown);
        left[0].started += 1;
        assert_eq!(left[0].life(), Life::Dead);
        left[0].boot = "another".to_owned();
        assert_eq!(left[0].life(), Life::Unknown);
        posted.remove();
        assert_eq!(notes(dir.path()), []);
    }
}
