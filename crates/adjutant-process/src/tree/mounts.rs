//! Where this machine's control groups are, and where in them this program is.

use std::path::{Path, PathBuf};

/// One mounted hierarchy of control groups, and this program's place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// The mount point.
    pub(super) top: PathBuf,
    /// The folder of the group that this program is in.
    pub(super) own: PathBuf,
}

/// The hierarchies that matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Hierarchies {
    pub(super) v2: Option<Hierarchy>,
    pub(super) memory: Option<Hierarchy>,
    pub(super) cpu: Option<Hierarchy>,
    pub(super) pids: Option<Hierarchy>,
    pub(super) freezer: Option<Hierarchy>,
}

impl Hierarchies {
    /// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
    pub(super) fn read() -> Self {
        let text = |file| std::fs::read_to_string(file).unwrap_or_default();
        Self::parse(&text("/proc/self/mountinfo"), &text("/proc/self/cgroup"))
    }

    fn parse(mounts: &str, places: &str) -> Self {
        let mut found = Self::default();
        for mount in mounts.lines().filter_map(Mount::parse) {
            if mount.version == 2 {
                let own = place(places, "");
                found.v2.get_or_insert_with(|| mount.hierarchy(own));
                continue;
            }
            let take = |controller: &str, slot: &mut Option<Hierarchy>| {
                if mount.options.split(',').any(|option| option == controller) {
                    let own = place(places, controller);
                    slot.get_or_insert_with(|| mount.hierarchy(own));
                }
            };
            take("memory", &mut found.memory);
            take("cpu", &mut found.cpu);
            take("pids", &mut found.pids);
            take("freezer", &mut found.freezer);
        }
        found
    }
}

struct Mount<'a> {
    version: u8,
    /// Which group of the hierarchy is mounted.
    root: &'a str,
    point: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// `35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory`
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut system = system.split(' ');
        Some(Self {
            root: mount.next()?,
            point: mount.next()?,
            version: match system.next()? {
                "cgroup2" => 2,
                "cgroup" => 1,
                _ => return None,
            },
            options: system.nth(1)?,
        })
    }

    fn hierarchy(&self, own: Option<&str>) -> Hierarchy {
        let top = Path::new(self.point);
        let below = own
            .and_then(|own| Path::new(own).strip_prefix(self.root).ok())
            // In a namespace of its own, a place may be told that is outside of the mount: `/../other`.
            .filter(|own| !own.to_string_lossy().contains(".."));
        Hierarchy {
            top: top.to_owned(),
            own: below.map_or_else(|| top.to_owned(), |below| top.join(below)),
        }
    }
}

/// This program's group: `4:memory:/some/group`, or `0::/some/group` for version 2.
fn place<'a>(places: &'a str, controller: &str) -> Option<&'a str> {
    places.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        let path = parts.next()?;
        let here = controllers.split(',').any(|name| name == controller);
        here.then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(top: &str, own: &str) -> Option<Hierarchy> {
        let (top, own) = (top.into(), own.into());
        Some(Hierarchy { top, own })
    }

    #[test]
    fn hybrid_hosts_have_both() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw";
        let found = Hierarchies::parse(mounts, "4:memory:/a/b\n2:cpu,cpuacct:/\n0::/c");
        assert_eq!(
            found.v2,
            hierarchy("/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/c")
        );
        assert_eq!(
            found.memory,
            hierarchy("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/a/b")
        );
        let cpu = "/sys/fs/cgroup/cpu,cpuacct";
        assert_eq!(found.cpu, hierarchy(cpu, &format!("{cpu}/")));
        assert_eq!((found.pids, found.freezer), (None, None));
    }

    #[test]
    fn a_container_sees_its_part_as_the_whole() {
        let mounts = "41 31 0:38 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw,nsdelegate";
        let inside = Hierarchies::parse(mounts, "0::/docker/x/y").v2;
        assert_eq!(inside, hierarchy("/sys/fs/cgroup", "/sys/fs/cgroup/y"));
        for strange in ["0::/elsewhere", "0::/docker/x/../z", ""] {
            let found = Hierarchies::parse(mounts, strange).v2;
            assert_eq!(
                found,
                hierarchy("/sys/fs/cgroup", "/sys/fs/cgroup"),
                "{strange}"
            );
        }
    }
}
