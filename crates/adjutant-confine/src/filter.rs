//! Which system calls a process may make, by seccomp.
//!
//! Up to three filters are stacked; the kernel asks all of them and takes the strictest answer, and of two refusals that of
//! the filter installed last.

mod dangerous;
mod ordinary;

use std::{collections::BTreeMap, io};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, sock_filter,
};
use serde::{Deserialize, Serialize};

/// Refused or allowed calls: always, or when one of the rules matches.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The kinds of sockets that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Families {
    /// Unix sockets.
    Local,
    /// Unix sockets, IPv4 and IPv6, and netlink to learn addresses and routes.
    Usual,
}

/// What is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filter {
    /// All other sockets.
    pub(crate) families: Families,
    /// Calls that change the machine or look into the kernel.
    pub(crate) dangerous: bool,
    /// Calls that ordinary programs do not make.
    pub(crate) strict: bool,
}

impl Filter {
    /// Confines this process. It must not be able to get new rights any more.
    pub(crate) fn apply(self) -> io::Result<()> {
        if self.strict {
            install(&ordinary_only()?)?;
        }
        // Another way to name the same calls, unused for years.
        if cfg!(target_arch = "x86_64") {
            install(&no_x32())?;
        }
        install(&self.refusals()?)
    }

    fn refusals(self) -> io::Result<BpfProgram> {
        let mut rules = Rules::new();
        dangerous::sockets(&mut rules, self.families)?;
        // It makes sockets and opens files without calls that a filter would see.
        dangerous::rings(&mut rules);
        if self.dangerous {
            dangerous::all(&mut rules)?;
        }
        compile(rules, SeccompAction::Allow, refusal(libc::EPERM))
    }
}

/// Programs know this answer from older kernels and do without, or use an older call whose arguments a filter can see.
fn ordinary_only() -> io::Result<BpfProgram> {
    let rules = ordinary::CALLS.iter().map(|call| (*call, Vec::new()));
    compile(rules.collect(), refusal(libc::ENOSYS), SeccompAction::Allow)
}

fn refusal(errno: i32) -> SeccompAction {
    SeccompAction::Errno(errno.unsigned_abs())
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> io::Result<BpfProgram> {
    let machine = TargetArch::try_from(std::env::consts::ARCH).map_err(other)?;
    let filter = SeccompFilter::new(rules, otherwise, matching, machine).map_err(other)?;
    BpfProgram::try_from(filter).map_err(other)
}

fn install(program: &BpfProgram) -> io::Result<()> {
    apply_filter(program).map_err(|error| match error {
        seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error) => error,
        error => other(error),
    })
}

fn other(_: impl std::error::Error) -> io::Error {
    rustix::io::Errno::NOTSUP.into()
}

/// Refuses the x32 names of calls, which other filters would not recognise.
fn no_x32() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    let statement = |code: u32, yes, no, value| sock_filter {
        code: code as u16,
        jt: yes,
        jf: no,
        k: value,
    };
    vec![
        // The call's number is the first thing that a filter is given.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            refusal(libc::ENOSYS).into(),
        ),
        statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            SeccompAction::Allow.into(),
        ),
    ]
}

/// Matches when all conditions do.
fn when(conditions: Vec<SeccompCondition>) -> io::Result<SeccompRule> {
    SeccompRule::new(conditions).map_err(other)
}

/// A condition on the lower half of an argument, which is all that the kernel looks at in the arguments we care for.
fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> io::Result<SeccompCondition> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value).map_err(other)
}

/// Why there are no filters here, if so.
pub(crate) fn why_not() -> Option<String> {
    let refuse = rustix::thread::secure_computing_mode().err();
    let fix = "use a kernel with CONFIG_SECCOMP_FILTER on x86-64 or arm64";
    if let Some(error) = refuse {
        return Some(format!("{error}; {fix}"));
    }
    let compiled = ordinary_only().err();
    compiled.map(|error| format!("{error}; {fix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_fits_into_the_kernel() {
        const MAX_INSTRUCTIONS: usize = 4096;
        assert!(ordinary_only().unwrap().len() < MAX_INSTRUCTIONS);
        for families in [Families::Local, Families::Usual] {
            let filter = Filter {
                families,
                dangerous: true,
                strict: true,
            };
            assert!(filter.refusals().unwrap().len() < MAX_INSTRUCTIONS);
        }
    }

    #[test]
    fn what_is_dangerous_is_not_ordinary() {
        for call in dangerous::ALWAYS {
            assert!(!ordinary::CALLS.contains(call), "system call {call}");
        }
    }

    #[test]
    fn ordinary_calls_are_named_once() {
        let mut calls = ordinary::CALLS.to_vec();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), ordinary::CALLS.len());
    }
}
