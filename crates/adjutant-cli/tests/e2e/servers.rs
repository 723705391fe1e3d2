//! Stores on servers: everything that works on a file works there too, for many processes at once.

mod bad_input;
mod fresh;
mod sharing;

use crate::support::{Project, count, lines};

use self::fresh::Fresh;

/// The same tests on each engine of this build.
macro_rules! on_every_engine {
    ($($test:ident in $module:ident;)*) => {
        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[test] fn $test() { super::$module::$test(&super::Fresh::postgres()); })*
        }
        #[cfg(feature = "redis")]
        mod redis {
            $(#[test] fn $test() { super::$module::$test(&super::Fresh::redis()); })*
        }
    };
}

on_every_engine! {
    a_store_is_named_by_flag_file_or_variable in looking;
    runs_are_listed_shown_and_followed in looking;
    the_doctor_looks_at_the_server in looking;
    a_backup_is_left_to_the_servers_tools in looking;
    a_killed_command_is_continued_by_the_same_one in sharing;
    a_killed_workers_run_goes_on_in_another_one in sharing;
    workers_share_the_load_and_take_over_what_a_killed_one_had in sharing;
    a_server_that_comes_back_is_waited_for in sharing;
    a_server_that_is_not_there_is_told in bad_input;
    an_unknown_parameter_is_told in bad_input;
    no_output_shows_the_password in bad_input;
    a_password_may_come_from_a_file in bad_input;
    a_wrong_password_is_told in bad_input;
}

mod looking {
    use super::*;

    pub fn a_store_is_named_by_flag_file_or_variable(store: &Fresh) {
        let project = Project::new();
        project.shell_agent("echo", "cat > /dev/null; echo ok");
        let url = store.url();
        project
            .agent(&["--store", url, "run", "echo", "-q"])
            .code_is(0);
        project.write("adjutant.yaml", &format!("store:\n  url: '{url}'\n"));
        project.agent(&["run", "echo", "-q"]).code_is(0);
        project.write("adjutant.yaml", "");
        let listed = Project::on(url).agent(&["runs", "list", "-o", "json"]);
        assert_eq!(listed.json().as_array().unwrap().len(), 2);
        assert!(!project.path(".adjutant/adjutant.db").exists());
    }

    pub fn runs_are_listed_shown_and_followed(store: &Fresh) {
        let project = Project::on(store.url());
        project.python_agent("steps", super::sharing::STEPS);
        let running = project.start(&["run", "steps", "x"]);
        let run = project.until_newest();
        let follow = project.start(&["runs", "events", &run, "--follow", "-o", "json"]);
        crate::support::eventually("it is at the gate", || {
            lines(&project.path("effects"))
                .last()
                .is_some_and(|line| line == "at go")
        });
        assert_eq!(project.state(&run), "running");
        project.write("go", "");
        assert_eq!(running.ended().code_is(0).stdout, "done\n");
        let followed = follow.ended();
        let events = followed.code_is(0).stdout.lines();
        let events: Vec<serde_json::Value> = events
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for (event, number) in events.iter().zip(1..) {
            assert_eq!(event["seq"], number, "{followed:?}");
        }
        assert_eq!(events.last().unwrap()["type"], "run.succeeded");
        assert_eq!(project.show(&run)["state"], "succeeded");
        assert_eq!(count(&project, "one"), 1);
        let steps = project.agent(&["runs", "steps", "last"]);
        assert!(steps.code_is(0).stdout.contains("two"), "{steps:?}");
        project
            .agent(&["runs", "prune", "--older-than", "1h"])
            .code_is(0);
        assert_eq!(project.show(&run)["state"], "succeeded");
    }

    pub fn the_doctor_looks_at_the_server(store: &Fresh) {
        let project = Project::on(store.url());
        let doctor = project.agent(&["doctor", "-o", "json"]);
        let found = doctor.code_is(0).json();
        let checks = found["checks"].as_array().unwrap();
        let verdict = |name: &str| {
            let check = checks.iter().find(|check| check["check"] == name);
            check.unwrap_or_else(|| panic!("no {name}: {doctor:?}"))["verdict"].clone()
        };
        for name in ["store", "durability", "settings", "rights", "queue"] {
            assert_eq!(verdict(name), "ok", "{name}: {doctor:?}");
        }
    }

    pub fn a_backup_is_left_to_the_servers_tools(store: &Fresh) {
        let project = Project::on(store.url());
        for command in [&["backup", "copy"][..], &["restore", "copy"]] {
            project
                .agent(command)
                .refused(2, "usage")
                .says(store.backup_tool);
        }
        assert!(!project.path("copy").exists());
    }
}
