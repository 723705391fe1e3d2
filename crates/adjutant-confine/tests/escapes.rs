//! Attempts to get out, each with the answer that every profile gives. That an attempt works without confinement proves
//! that it is a real one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod support;

use adjutant_confine::{Confinement, Network, Profile};
use libc::*;

use crate::support::{World, am_root};

/// What an attempt comes to without confinement.
enum Open {
    /// It works.
    Works,
    /// It works for root, and is not tried by others.
    WorksForRoot,
    /// It gets as far as to an answer that only those get who have the right: the error's number.
    Passes(i32),
    /// It would do harm, or depends on the machine.
    Untried,
}

use Open::{Passes, Untried, Works, WorksForRoot};

/// An attempt, what it comes to without confinement, and the answers under `isolated` and `restricted`.
type Row = (&'static str, Open, i32, i32);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("write outside",                             Works,            ENOENT,       ENOENT),
    ("write through a symbolic link",             Works,            ENOENT,       ENOENT),
    ("write through a hard link",                 Works,            ENOENT,       ENOENT),
    ("write through dots",                        Works,            ENOENT,       ENOENT),
    ("truncate outside",                          Works,            ENOENT,       ENOENT),
    ("rename outside",                            Works,            ENOENT,       ENOENT),
    ("remove a folder outside",                   Works,            ENOENT,       ENOENT),
    ("write through another process's root",      Works,            ENOENT,       ENOENT),
    ("write through another process's folder",    Works,            ENOENT,       ENOENT),
    ("read through the first process's root",     Works,     EACCES,       EACCES),
    ("read a secret",                             Works,            ENOENT,       ENOENT),
    ("read a secret in the home",                 Works,            ENOENT,       ENOENT),
    ("read a file that was left open",            Works,            EBADF,        EBADF),
    ("read the passwords",                        WorksForRoot,     ENOENT,       ENOENT),
    ("read the host keys",                        Works,            ENOENT,       ENOENT),
    ("change the passwords",                      WorksForRoot,     EROFS,        EROFS),
    ("change the system's programs",              WorksForRoot,     EROFS,        EROFS),
    ("change the own program",                    Works,            EROFS,        EROFS),
    ("write a kernel setting",                    WorksForRoot,     EROFS,        EROFS),
    ("drop the machine's caches",                  WorksForRoot,     EROFS,        EROFS),
    ("write to sysfs",                            WorksForRoot,     ENOENT,       ENOENT),
    ("join another control group",                Works,            ENOENT,       ENOENT),
    ("read the kernel's log",                     WorksForRoot,     ENOENT,       ENOENT),
    ("open the physical memory",                  Untried,          ENOENT,       ENOENT),
    ("make a character device",                   WorksForRoot,     EACCES,       EACCES),
    ("make a block device",                       WorksForRoot,     EACCES,       EACCES),
    ("run a program of another user",             WorksForRoot,     EPERM,        EPERM),
    ("open a file by its handle",                 Untried,          EPERM,        EPERM),

    ("see another process",                       Works,            ENOENT,       ENOENT),
    ("read another process's environment",        Works,            ENOENT,       ENOENT),
    ("read the first process's environment",      Works,     EACCES,       EACCES),
    ("open the first process's memory",           Works,     EACCES,       EACCES),
    ("open the first process's files",            Works,     EACCES,       EACCES),
    ("signal another process",                    Works,            ESRCH,        ESRCH),
    ("hold another process",                      Works,            ESRCH,        ESRCH),
    ("trace another process",                     Works,            ESRCH,        ENOSYS),
    ("trace the first process",                   Works,     EPERM,        ENOSYS),
    ("read another process's memory",             Passes(EFAULT),   ESRCH,        ENOSYS),
    ("enter another process's network",           WorksForRoot,     ENOENT,       ENOENT),
    ("enter the first process's mounts",          WorksForRoot,     EACCES,       EACCES),
    ("make a user namespace",                     Works,            EPERM,        EPERM),
    ("make a mount namespace",                    WorksForRoot,     EPERM,        EPERM),
    ("make a network namespace",                  WorksForRoot,     EPERM,        EPERM),
    ("clone into a user namespace",               Works,            EPERM,        EPERM),
    ("clone into a user namespace the new way",   Works,            ENOSPC,       ENOSYS),
    ("become another user",                       WorksForRoot,     EINVAL,       EINVAL),
    ("join another group",                        WorksForRoot,     EPERM,        EPERM),
    ("take a capability",                         WorksForRoot,     EPERM,        EPERM),
    ("take more than its share of the processor", WorksForRoot,     EACCES,       EACCES),
    ("use the keys of the session",               Works,            EPERM,        EPERM),
    ("add a key",                                 Works,            EPERM,        EPERM),

    ("connect by TCP",                            Works,            ENETUNREACH,  EPERM),
    ("send by UDP",                               Works,            ENETUNREACH,  EPERM),
    ("connect to an abstract socket",             Works,            ECONNREFUSED, ECONNREFUSED),
    ("connect to a socket in a folder",           Works,            ENOENT,       ENOENT),
    ("open a raw socket",                         WorksForRoot,     EPERM,        EPERM),
    ("open a packet socket",                      WorksForRoot,     EPERM,        EPERM),
    ("open an audit socket",                      Untried,          EPERM,        EPERM),
    ("open a socket to the hypervisor",           Untried,          EPERM,        EPERM),
    ("open a socket to the kernel's ciphers",     Untried,          EPERM,        EPERM),
    ("bring up an interface",                     WorksForRoot,     EPERM,        EPERM),

    ("mount a folder",                            WorksForRoot,     EPERM,        EPERM),
    ("make the root writable",                    Untried,          EPERM,        EPERM),
    ("take a mount off",                          Untried,          EPERM,        EPERM),
    ("mount the new way",                         WorksForRoot,     EPERM,        EPERM),
    ("copy a tree of mounts",                     WorksForRoot,     EPERM,        EPERM),
    ("change the root",                           WorksForRoot,     EPERM,        EPERM),
    ("turn the root",                             Untried,          EPERM,        EPERM),
    ("load a program into the kernel",            Untried,          EPERM,        EPERM),
    ("watch the whole processor",                 WorksForRoot,     EPERM,        EPERM),
    ("handle page faults",                        WorksForRoot,     EPERM,        EPERM),
    ("make a ring of requests",                   Untried,          EPERM,        EPERM),
    ("load a module",                             Untried,          EPERM,        EPERM),
    ("load a module from a file",                 Untried,          EPERM,        EPERM),
    ("remove a module",                           Untried,          EPERM,        EPERM),
    ("load another kernel",                       Untried,          EPERM,        EPERM),
    ("restart the machine",                       Untried,          EPERM,        EPERM),
    ("swap to a file",                            Untried,          EPERM,        EPERM),
    ("keep accounts of processes",                Untried,          EPERM,        EPERM),
    ("set the clock",                             Untried,          EPERM,        EPERM),
    ("rename the machine",                        WorksForRoot,     EPERM,        EPERM),
    ("read the kernel's messages",                WorksForRoot,     EPERM,        EPERM),
    ("learn a file's handle",                     Works,            EPERM,        EPERM),
    ("turn off the random layout of memory",      Works,            EPERM,        EPERM),
    ("type into a terminal",                      Untried,          EPERM,        EPERM),
];

fn names() -> Vec<&'static str> {
    TABLE.iter().map(|row| row.0).collect()
}

/// What comes of a row without confinement, where that may be tried.
fn unconfined(row: &Row) -> Option<i32> {
    match row.1 {
        Works => Some(0),
        WorksForRoot => am_root().then_some(0),
        Passes(errno) => am_root().then_some(errno),
        Untried => None,
    }
}

fn check(world: &World, profile: Profile, expected: fn(&Row) -> i32) {
    let answers = world.attempts(&world.plan(profile, None), &names());
    let pairs = TABLE.iter().zip(answers);
    let wrong = pairs.filter(|(row, answer)| {
        // Who may not write anyway is told that first.
        let also = *answer == EACCES && expected(row) == EROFS && world.is_ordinary();
        expected(row) != *answer && !also
    });
    let wrong: Vec<String> = wrong
        .map(|(row, answer)| {
            let text = std::io::Error::from_raw_os_error(answer);
            format!("{}: answered {text} instead of {}", row.0, expected(row))
        })
        .collect();
    assert!(wrong.is_empty(), "{profile}:\n{}", wrong.join("\n"));
}

#[test]
fn every_attempt_is_a_real_one() {
    let world = World::new();
    let tried = TABLE
        .iter()
        .filter_map(|row| Some((row.0, unconfined(row)?)));
    let (names, expected): (Vec<_>, Vec<_>) = tried.unzip();
    let answers = world.attempts(&Confinement::open(), &names);
    let found: Vec<_> = names.iter().zip(answers).collect();
    let expected: Vec<_> = names.iter().zip(expected).collect();
    assert_eq!(found, expected);
}

#[test]
fn nothing_gets_out_of_isolated() {
    check(&World::new(), Profile::Isolated, |row| row.2);
}

#[test]
fn nothing_gets_out_of_restricted() {
    check(&World::new(), Profile::Restricted, |row| row.3);
}

#[test]
fn nothing_of_an_ordinary_user_gets_out() {
    // The other tests are about an ordinary user then.
    if am_root() {
        let world = World::of_nobody();
        check(&world, Profile::Isolated, |row| row.2);
        check(&world, Profile::Restricted, |row| row.3);
    }
}

/// What `workspace` refuses. It lets an agent read what its user can read, and reach the network.
#[rustfmt::skip]
const WORKSPACE: &[(&str, i32)] = &[
    ("write outside",                           EACCES),
    ("write through a symbolic link",           EACCES),
    ("write through a hard link",               EXDEV),
    ("write through dots",                      EACCES),
    ("truncate outside",                        EACCES),
    ("rename outside",                          EACCES),
    ("remove a folder outside",                 EACCES),
    ("write through another process's root",    EACCES),
    ("write through another process's folder",  EACCES),
    ("read a file that was left open",          EBADF),
    ("change the passwords",                    EACCES),
    ("change the system's programs",            EACCES),
    ("change the own program",                  EACCES),
    ("write a kernel setting",                  EACCES),
    ("make a character device",                 EACCES),
    ("make a block device",                     EACCES),
    ("run a program of another user",           EPERM),
    ("read another process's environment",      EACCES),
    ("open the first process's memory",         EACCES),
    ("signal another process",                  EPERM),
    ("trace another process",                   EPERM),
    ("become another user",                     EPERM),
    ("take a capability",                       EPERM),
    ("connect to an abstract socket",           EPERM),
    ("open a raw socket",                       EPERM),
    ("mount a folder",                          EPERM),
    ("change the root",                         EPERM),
    ("restart the machine",                     EPERM),
    ("read the kernel\'s messages",             EPERM),
];

#[test]
fn nothing_is_changed_outside_of_a_workspace() {
    let world = World::new();
    let names: Vec<_> = WORKSPACE.iter().map(|row| row.0).collect();
    let answers = world.attempts(&world.plan(Profile::Workspace, None), &names);
    let answers: Vec<_> = names.iter().copied().zip(answers).collect();
    assert_eq!(answers, WORKSPACE);
}

#[test]
fn a_workspace_without_network_has_none() {
    let world = World::new();
    let names = ["connect by TCP", "send by UDP", "make a ring of requests"];
    let plan = world.plan(Profile::Workspace, Some(Network::None));
    assert_eq!(world.attempts(&plan, &names), [EPERM; 3]);
    let plan = world.plan(Profile::Workspace, None);
    assert_eq!(world.attempts(&plan, &names[..2]), [0; 2]);
}

#[test]
fn the_machines_network_is_reached_only_when_that_is_asked_for() {
    let world = World::new();
    for profile in [Profile::Isolated, Profile::Restricted] {
        let plan = world.plan(profile, Some(Network::Host));
        assert_eq!(
            world.attempts(&plan, &["connect by TCP", "send by UDP"]),
            [0; 2]
        );
        // The own loopback interface is up, and nobody else is on it.
        let plan = world.plan(profile, Some(Network::Isolated));
        assert_eq!(world.attempts(&plan, &["connect by TCP"]), [ECONNREFUSED]);
    }
}
