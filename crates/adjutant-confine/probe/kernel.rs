//! Attempts to change the machine, and to get into the kernel.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::unix::ffi::OsStrExt,
    ptr::null,
};

use crate::{Attempt, answer, facts::Facts};

pub const ALL: &[Attempt] = &[
    ("mount a folder", |facts| {
        let at = place(facts)?;
        // SAFETY: strings end in a zero byte.
        answer(unsafe {
            libc::mount(c"none".as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), 0, null())
        })?;
        // SAFETY: as above.
        answer(unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) }).map(drop)
    }),
    ("make the root writable", |_| {
        let flags = libc::MS_REMOUNT | libc::MS_BIND;
        // SAFETY: strings end in a zero byte.
        answer(unsafe {
            libc::mount(
                c"none".as_ptr(),
                c"/usr".as_ptr(),
                c"none".as_ptr(),
                flags,
                null(),
            )
        })
        .map(drop)
    }),
    ("take a mount off", |_| {
        // SAFETY: strings end in a zero byte.
        answer(unsafe { libc::umount2(c"/proc".as_ptr(), libc::MNT_DETACH) }).map(drop)
    }),
    ("mount the new way", |_| {
        // SAFETY: strings end in a zero byte.
        answer(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0) }).map(drop)
    }),
    ("copy a tree of mounts", |_| {
        const CLONE: u32 = 1;
        // SAFETY: strings end in a zero byte.
        answer(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c"/".as_ptr(), CLONE) })
            .map(drop)
    }),
    ("change the root", |facts| {
        let at = place(facts)?;
        // SAFETY: strings end in a zero byte.
        answer(unsafe { libc::chroot(at.as_ptr()) }).map(drop)
    }),
    ("turn the root", |_| {
        // SAFETY: strings end in a zero byte.
        answer(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })
            .map(drop)
    }),
    ("load a program into the kernel", |_| {
        // A program of no instructions is refused to those who may load one.
        const PROGRAM_LOAD: i32 = 5;
        let request = [0_u64; 16];
        // SAFETY: the request has the size that is given.
        answer(unsafe {
            libc::syscall(
                libc::SYS_bpf,
                PROGRAM_LOAD,
                request.as_ptr(),
                size_of_val(&request),
            )
        })
        .map(drop)
    }),
    ("watch the whole processor", |_| {
        let mut request = [0_u64; 16];
        // The type is software, the size in the upper half is that of the first version; the clock of a processor.
        request[0] = 1 | (64 << 32);
        let nothing = -1;
        // SAFETY: the request is larger than the size that it names.
        answer(unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                request.as_ptr(),
                nothing,
                0,
                nothing,
                0,
            )
        })
        .map(drop)
    }),
    ("handle page faults", |_| {
        // SAFETY: the call takes numbers only.
        answer(unsafe { libc::syscall(libc::SYS_userfaultfd, 0) }).map(drop)
    }),
    ("make a ring of requests", |_| {
        let mut request = [0_u32; 30];
        // SAFETY: the structure has this size and is written to.
        answer(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, request.as_mut_ptr()) })
            .map(drop)
    }),
    ("load a module", |_| {
        // SAFETY: an empty image is read nowhere.
        answer(unsafe { libc::syscall(libc::SYS_init_module, null::<u8>(), 0, c"".as_ptr()) })
            .map(drop)
    }),
    ("load a module from a file", |_| {
        let file = File::open("/dev/null")?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        // SAFETY: strings end in a zero byte.
        answer(unsafe { libc::syscall(libc::SYS_finit_module, number, c"".as_ptr(), 0) }).map(drop)
    }),
    ("remove a module", |_| {
        // SAFETY: strings end in a zero byte. There is no such module.
        answer(unsafe {
            libc::syscall(
                libc::SYS_delete_module,
                c"adjutant_none".as_ptr(),
                libc::O_NONBLOCK,
            )
        })
        .map(drop)
    }),
    ("load another kernel", |_| {
        // More parts than there may be: who may load one is told so.
        // SAFETY: nothing is read when the number is refused.
        answer(unsafe { libc::syscall(libc::SYS_kexec_load, 0, 1_000, null::<u8>(), 0) }).map(drop)
    }),
    ("restart the machine", |_| {
        // Without the magic numbers nothing happens.
        // SAFETY: no pointer is followed.
        answer(unsafe { libc::syscall(libc::SYS_reboot, 0, 0, 0, 0) }).map(drop)
    }),
    ("swap to a file", |_| {
        // SAFETY: strings end in a zero byte. There is no such file.
        answer(unsafe { libc::swapon(c"/nonexistent/swap".as_ptr(), 0) }).map(drop)
    }),
    ("keep accounts of processes", |_| {
        // SAFETY: strings end in a zero byte. There is no such file.
        answer(unsafe { libc::acct(c"/nonexistent/accounts".as_ptr()) }).map(drop)
    }),
    ("set the clock", |_| {
        let never = libc::timespec {
            tv_sec: -1,
            tv_nsec: -1,
        };
        // SAFETY: the time lives during the call. It is no valid one.
        answer(unsafe {
            // The C library would look at the time by itself.
            libc::syscall(
                libc::SYS_clock_settime,
                libc::CLOCK_REALTIME,
                &raw const never,
            )
        })
        .map(drop)
    }),
    ("rename the machine", |_| {
        let name = fs::read("/proc/sys/kernel/hostname")?;
        let name = name.trim_ascii_end();
        // SAFETY: the name has the length that is given.
        answer(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
    }),
    ("read the kernel's messages", |_| {
        const READ_ALL: i32 = 3;
        let mut text = [0_u8; 16];
        // SAFETY: the text has the length that is given.
        answer(unsafe { libc::syscall(libc::SYS_syslog, READ_ALL, text.as_mut_ptr(), 16) })
            .map(drop)
    }),
    ("learn a file's handle", |facts| {
        let at = place(facts)?;
        let mut handle = [0_u8; 136];
        handle[0] = 128;
        let mut mount = 0_i32;
        // SAFETY: the handle has room for the 128 bytes that it names after its two numbers.
        answer(unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                libc::AT_FDCWD,
                at.as_ptr(),
                handle.as_mut_ptr(),
                &raw mut mount,
                0,
            )
        })
        .map(drop)
    }),
    ("turn off the random layout of memory", |_| {
        // SAFETY: the call takes numbers only.
        answer(unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as u64) }).map(drop)
    }),
    ("type into a terminal", type_into_a_terminal),
];

fn place(facts: &Facts) -> io::Result<CString> {
    let folder = facts.work.join("place");
    fs::create_dir_all(&folder)?;
    Ok(CString::new(folder.as_os_str().as_bytes())?)
}

/// Puts a letter into the input of the terminal of its own session, as a shell above would read it.
fn type_into_a_terminal(_: &Facts) -> io::Result<()> {
    // SAFETY: the calls take numbers and strings that end in a zero byte, and write into what lives during the call.
    unsafe {
        libc::setsid();
        let master = answer(libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY))? as i32;
        answer(libc::grantpt(master))?;
        answer(libc::unlockpt(master))?;
        let mut name: [libc::c_char; 64] = [0; 64];
        libc::ptsname_r(master, name.as_mut_ptr(), name.len());
        let terminal = answer(libc::open(name.as_ptr(), libc::O_RDWR))? as i32;
        answer(libc::ioctl(terminal, libc::TIOCSCTTY, 0))?;
        let letter = b'x';
        answer(libc::ioctl(terminal, libc::TIOCSTI, &raw const letter)).map(drop)
    }
}
