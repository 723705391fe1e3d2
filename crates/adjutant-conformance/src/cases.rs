//! The cases, in files by what they are about.

mod cancel;
mod crash;
mod end;
mod events;
mod exec;
mod framing;
mod handshake;
mod limits;
mod parallel;
mod requests;
mod routed;
mod runs;
mod steps;
mod waits;

use crate::{
    fault::Check,
    program::{Program, Protocol},
};

/// One rule and its proof.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) level: u8,
    pub(crate) rule: &'static str,
    pub(crate) needs: Needs,
    pub(crate) check: fn(&Program) -> Check,
}

/// What a program must have for a case.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Needs {
    Nothing,
    /// The agent `conformance`.
    Modes,
    /// That, in a process that takes at least three runs at once.
    Parallel,
    /// That, in a process that takes one run at a time.
    Alone,
    /// That, and `run/steer`.
    Steer,
}

/// A case in a line of a table: name, level, needs, rule, proof.
const fn case(
    name: &'static str,
    level: u8,
    needs: Needs,
    rule: &'static str,
    check: fn(&Program) -> Check,
) -> Case {
    Case {
        name,
        level,
        rule,
        needs,
        check,
    }
}

/// All cases for programs that speak `protocol`.
pub(crate) fn all(protocol: Protocol) -> Vec<Case> {
    if protocol == Protocol::Exec {
        return exec::CASES.to_vec();
    }
    [
        handshake::CASES,
        framing::CASES,
        requests::CASES,
        runs::CASES,
        events::CASES,
        steps::CASES,
        waits::CASES,
        routed::CASES,
        cancel::CASES,
        limits::CASES,
        parallel::CASES,
        end::CASES,
        crash::CASES,
    ]
    .concat()
}
