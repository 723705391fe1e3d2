//! Calls that change the machine, look into the kernel, or lead out of namespaces. Most need rights that a confined process
//! lacks anyway; refusing them here keeps it away from the code that checks those rights.

use std::io;

use libc::*;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};

use super::{Families, Rules, argument, when};

/// Refused whatever the arguments.
pub(super) const ALWAYS: &[i64] = &[
    // The kernel, its modules and its programs.
    SYS_bpf,
    SYS_delete_module,
    SYS_finit_module,
    SYS_init_module,
    SYS_kexec_file_load,
    SYS_kexec_load,
    SYS_perf_event_open,
    SYS_reboot,
    SYS_syslog,
    SYS_userfaultfd,
    // Mounts and roots.
    SYS_chroot,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fsopen,
    SYS_fspick,
    SYS_mount,
    SYS_mount_setattr,
    SYS_move_mount,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_open_tree,
    SYS_pivot_root,
    SYS_quotactl,
    SYS_setns,
    SYS_swapoff,
    SYS_swapon,
    SYS_umount2,
    // Keys, clocks and accounting, which are the machine's.
    SYS_acct,
    SYS_add_key,
    SYS_clock_settime,
    SYS_keyctl,
    SYS_request_key,
    SYS_settimeofday,
    SYS_vhangup,
    // Names of hosts, which nobody else would see, but nobody needs either.
    SYS_setdomainname,
    SYS_sethostname,
    #[cfg(target_arch = "x86_64")]
    SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    SYS_modify_ldt,
];

/// Every kind of namespace.
const NAMESPACES: &[i32] = &[
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
];

/// Orders to a terminal that put words into somebody's mouth.
const TERMINAL_INPUT: &[u64] = &[TIOCSTI, TIOCLINUX];
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

/// What `personality` is asked for by ordinary programs: nothing new, and the present one.
const PERSONALITIES: &[u64] = &[0, 0xffff_ffff];

/// All that is dangerous, besides sockets and rings.
pub(super) fn all(rules: &mut Rules) -> io::Result<()> {
    rules.extend(ALWAYS.iter().map(|call| (*call, Vec::new())));
    for call in [SYS_unshare, SYS_clone] {
        let namespace = |flag: &i32| {
            let flag = u64::from(flag.unsigned_abs());
            when(vec![argument(0, MaskedEq(flag), flag)?])
        };
        let each: io::Result<_> = NAMESPACES.iter().map(namespace).collect();
        rules.insert(call, each?);
    }
    let orders = TERMINAL_INPUT
        .iter()
        .map(|order| when(vec![argument(1, Eq, *order)?]));
    rules.insert(SYS_ioctl, orders.collect::<io::Result<_>>()?);
    let unusual = PERSONALITIES.iter().map(|usual| argument(0, Ne, *usual));
    rules.insert(
        SYS_personality,
        vec![when(unusual.collect::<io::Result<_>>()?)?],
    );
    Ok(())
}

/// All sockets but those of the families.
pub(super) fn sockets(rules: &mut Rules, families: Families) -> io::Result<()> {
    let allowed: &[i32] = match families {
        Families::Local => &[AF_UNIX],
        Families::Usual => &[AF_UNIX, AF_INET, AF_INET6, AF_NETLINK],
    };
    let number = |family: i32| u64::from(family.unsigned_abs());
    let none_of_them = allowed
        .iter()
        .map(|family| argument(0, Ne, number(*family)));
    let mut refused = vec![when(none_of_them.collect::<io::Result<_>>()?)?];
    if families == Families::Usual {
        let routes = u64::from(NETLINK_ROUTE.unsigned_abs());
        refused.push(when(vec![
            argument(0, Eq, number(AF_NETLINK))?,
            argument(2, Ne, routes)?,
        ])?);
    }
    rules.insert(SYS_socket, refused.clone());
    rules.insert(SYS_socketpair, refused);
    Ok(())
}

/// Rings of requests, which the kernel carries out without asking a filter.
pub(super) fn rings(rules: &mut Rules) {
    for call in [
        SYS_io_uring_setup,
        SYS_io_uring_enter,
        SYS_io_uring_register,
    ] {
        rules.insert(call, Vec::new());
    }
}
