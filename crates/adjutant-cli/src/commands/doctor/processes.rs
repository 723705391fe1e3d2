//! What the doctor finds out about owning and limiting agents' processes.

use adjutant::process::{Capabilities, Enforcement, NativeOptions, Ownership};

use super::{Finding, Verdict};

/// How process trees are owned, and what holds each limit.
pub fn look() -> Vec<Finding> {
    match Capabilities::look(&NativeOptions::default()) {
        Ok(here) => vec![ownership(&here), limits(&here)],
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
    let loose = here
        .limits
        .iter()
        .any(|(_, enforcement)| *enforcement == Enforcement::None);
    let verdict = if loose { Verdict::Note } else { Verdict::Ok };
    let details = here
        .limits
        .iter()
        .map(|(kind, enforcement)| (kind.to_string(), serde_json::json!(enforcement)))
        .collect();
    Finding::new("limits", verdict, found.join("; ")).details(serde_json::Value::Object(details))
}
