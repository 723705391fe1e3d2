//! Runs the cases.

use std::time::{Duration, Instant};

use crate::{
    cases::{self, Case, Needs},
    fault::{Check, Fault},
    host::{CONFORMANCE, Host},
    program::{Program, Protocol},
    report::{Outcome, Report, Verdict},
};

/// Which cases to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only cases whose name contains one of these; empty means all.
    pub only: Vec<String>,
    /// No cases whose name contains one of these.
    pub skip: Vec<String>,
    /// No cases above this level.
    pub max_level: Option<u8>,
}

impl Options {
    fn wants(&self, case: &Case) -> bool {
        let named = |names: &[String]| names.iter().any(|name| case.name.contains(name.as_str()));
        (self.only.is_empty() || named(&self.only))
            && !named(&self.skip)
            && self.max_level.is_none_or(|level| case.level <= level)
    }
}

/// Names and rules of all cases for programs that speak `protocol`.
#[must_use]
pub fn case_names(protocol: Protocol) -> Vec<(&'static str, &'static str)> {
    let cases = cases::all(protocol);
    cases.iter().map(|case| (case.name, case.rule)).collect()
}

/// The case that says why a program cannot be greeted.
const FIRST: &str = "handshake/answered";

/// Holds a program to the rules. Starts it about once per case.
#[must_use]
pub fn check(program: &Program, options: &Options) -> Report {
    let profile = match program.protocol {
        Protocol::Wire => Profile::ask(program),
        Protocol::Exec => Ok(Profile::default()),
    };
    let name = profile.as_ref().map(|profile| profile.name.clone());
    let wanted = cases::all(program.protocol).into_iter();
    let cases = wanted
        // A program that cannot be greeted keeps no rule, whatever was asked for.
        .filter(|case| options.wants(case) || (profile.is_err() && case.name == FIRST))
        .map(|case| run(program, &profile, case))
        .collect();
    Report {
        agent: name.unwrap_or_default(),
        cases,
    }
}

/// What the program says about itself.
#[derive(Default)]
struct Profile {
    name: String,
    conforms: bool,
    runs: u32,
    steer: bool,
}

impl Profile {
    fn ask(program: &Program) -> Check<Self> {
        let answer = Host::start(program)?.profile;
        Ok(Self {
            conforms: answer.agents.iter().any(|agent| agent.name == CONFORMANCE),
            name: answer.info.name,
            runs: answer.max_concurrent_runs,
            steer: answer.capabilities.steer,
        })
    }

    /// Why the program cannot show what a case wants to see.
    fn lacks(&self, needs: Needs) -> Option<&'static str> {
        match needs {
            Needs::Nothing => None,
            _ if !self.conforms => Some("the program has no agent `conformance`"),
            Needs::Parallel if self.runs < 3 => Some("it takes fewer than three runs at once"),
            Needs::Alone if self.runs != 1 => Some("it takes several runs at once"),
            Needs::Steer if !self.steer => Some("it does not take `run/steer`"),
            _ => None,
        }
    }
}

fn run(program: &Program, profile: &Check<Profile>, case: Case) -> Outcome {
    let began = Instant::now();
    let result = match profile {
        Ok(profile) => match profile.lacks(case.needs) {
            None => (case.check)(program),
            Some(why) => Err(Fault::Skip(why.to_owned())),
        },
        // The handshake's own cases say what is wrong; the others would only repeat it.
        Err(_) if case.name.starts_with("handshake/") => (case.check)(program),
        Err(_) => Err(Fault::Skip("`initialize` does not work".to_owned())),
    };
    outcome(case, result, began.elapsed())
}

fn outcome(case: Case, result: Check, took: Duration) -> Outcome {
    let (verdict, why) = match result {
        Ok(()) => (Verdict::Passed, String::new()),
        Err(Fault::Broke(why)) => (Verdict::Failed, why),
        Err(Fault::Skip(why)) => (Verdict::Skipped, why),
        Err(Fault::Killed) => (Verdict::Failed, "the process was killed".to_owned()),
    };
    Outcome {
        name: case.name,
        level: case.level,
        rule: case.rule,
        verdict,
        why,
        took,
    }
}
