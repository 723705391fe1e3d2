//! How much a folder has grown: looked at now and then, since nothing here counts as it is written.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Time between two looks.
pub(super) const DISK_SAMPLING: Duration = Duration::from_secs(1);

/// More files than these are not looked at, so that no agent can keep the thread that looks busy for long.
const MOST_FILES: usize = 50_000;

/// Size of the blocks that files are counted in.
const BLOCK: u64 = 512;

/// The growth of one folder from when this was made.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    before: u64,
    grown: u64,
    next: Instant,
}

impl Disk {
    pub(crate) fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            before: used(folder),
            grown: 0,
            next: Instant::now() + DISK_SAMPLING,
        }
    }

    /// Bytes by which it had grown when it was last looked at, which may be now.
    pub(crate) fn grown(&mut self, now: Instant) -> u64 {
        if now >= self.next {
            self.grown = used(&self.folder).saturating_sub(self.before);
            self.next = now + DISK_SAMPLING;
        }
        self.grown
    }
}

/// Bytes on disk of all files below a folder.
fn used(folder: &Path) -> u64 {
    let mut folders = vec![folder.to_owned()];
    let (mut bytes, mut files) = (0, 0);
    while let Some(folder) = folders.pop() {
        // What goes away meanwhile is not there.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // Of a link, not of what it leads to.
            let Ok(found) = entry.metadata() else {
                continue;
            };
            bytes += found.blocks() * BLOCK;
            files += 1;
            if files >= MOST_FILES {
                return bytes;
            }
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_what_came_after_the_start_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("before"), vec![1; 1 << 20]).unwrap();
        let mut disk = Disk::of(dir.path());
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("below/after"), vec![1; 1 << 18]).unwrap();
        assert_eq!(disk.grown(Instant::now()), 0, "not looked yet");
        let grown = disk.grown(Instant::now() + DISK_SAMPLING);
        assert!((1 << 18..1 << 19).contains(&grown), "{grown}");
    }

    #[test]
    fn a_link_is_no_way_around_and_none_in_circles() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("round")).unwrap();
        assert!(used(dir.path()) < 1 << 16);
    }
}
