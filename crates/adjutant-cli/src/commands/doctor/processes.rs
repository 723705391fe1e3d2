//! What the doctor finds out about owning and limiting agents' processes.

use adjutant::process::{
    Capabilities, Enforcement, Helper, Isolation, LimitKind, NativeOptions, Ownership, Profile,
    Support, isolation_support,
};

use super::{Finding, Verdict};

/// How process trees are owned, what holds each limit, and which isolation there is.
pub fn look() -> Vec<Finding> {
    match Capabilities::look(&NativeOptions::default()) {
        Ok(here) => {
            let support = isolation_support(Helper::this_program().as_ref());
            vec![ownership(&here), limits(&here), isolation(&support)]
        }
        Err(error) => vec![Finding::new(
            "processes",
            Verdict::Problem,
            error.to_string(),
        )],
    }
}

fn ownership(here: &Capabilities) -> Finding {
    let helper = if here.helper {
        "a helper ends them when the runtime is killed"
    } else {
        "no helper"
    };
    let found = format!("owned by {}; {helper}", here.ownership);
    let finding = if here.ownership == Ownership::Processes {
        Finding::new("processes", Verdict::Note, found).advice(
            "give this program control groups that it may write (systemd: `Delegate=yes`), so that the kernel limits \
             whole trees of processes",
        )
    } else {
        Finding::new("processes", Verdict::Ok, found)
    };
    let details = serde_json::json!({ "ownership": here.ownership, "helper": here.helper });
    finding.details(details)
}

/// The profiles that can be enforced, and what is missing for the others.
fn isolation(here: &Support) -> Finding {
    let enforced = |profile: &Profile| {
        let needs = Isolation::of(*profile).needs();
        needs.iter().all(|part| here.has(*part))
    };
    let (found, lacking): (Vec<Profile>, Vec<Profile>) =
        Profile::ALL.into_iter().partition(enforced);
    let found: Vec<&str> = found.into_iter().map(Profile::name).collect();
    let missing: Vec<String> = here.missing.iter().map(ToString::to_string).collect();
    let verdict = if lacking.is_empty() {
        Verdict::Ok
    } else {
        Verdict::Note
    };
    let finding = Finding::new("isolation", verdict, found.join(", ")).details(serde_json::json!({
        "profiles": found,
        "missing": here.missing,
    }));
    if missing.is_empty() {
        return finding;
    }
    finding.advice(missing.join("; "))
}

fn limits(here: &Capabilities) -> Finding {
    let mut groups: Vec<(Enforcement, Vec<&str>)> = Vec::new();
    for (kind, enforcement) in &here.limits {
        match groups.iter_mut().find(|(known, _)| known == enforcement) {
            Some((_, names)) => names.push(kind.as_str()),
            None => groups.push((*enforcement, vec![kind.as_str()])),
        }
    }
    let found: Vec<String> = groups
        .iter()
        .map(|(enforcement, names)| format!("{}: {enforcement}", names.join(", ")))
        .collect();
    let any = |is: &dyn Fn(LimitKind, Enforcement) -> bool| {
        here.limits
            .iter()
            .any(|(kind, enforcement)| is(*kind, *enforcement))
    };
    let refused = any(&|_, enforcement| enforcement == Enforcement::None);
    let slow =
        any(&|kind, enforcement| kind == LimitKind::Pids && enforcement == Enforcement::Sampled);
    let verdict = if refused || slow {
        Verdict::Note
    } else {
        Verdict::Ok
    };
    let details = here
        .limits
        .iter()
        .map(|(kind, enforcement)| (kind.to_string(), serde_json::json!(enforcement)))
        .collect();
    let finding = Finding::new("limits", verdict, found.join("; "))
        .details(serde_json::Value::Object(details));
    if slow {
        return finding.advice(
            "without control groups processes are counted twenty times a second: what multiplies faster does harm before it is ended",
        );
    }
    finding
}
