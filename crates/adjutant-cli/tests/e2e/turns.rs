//! Attempts that end in order to wait, and what people say to a run at work, through the whole runtime.

use crate::support::{Project, eventually, lines};

#[test]
fn what_people_say_reaches_the_run_at_work_and_the_attempt_after() {
    let project = Project::new();
    project.python_agent(
        "listens",
        "heard = []\n\
         while not heard:\n    heard = [message['content'] for message in run.steering()]\n    time.sleep(0.01)\n\
         note(home, heard[0])\n\
         if run.wait_for_signal('go'): pass\n\
         return heard[0]",
    );
    let manifest = project.read("listens/agent.py");
    project.write(
        "listens/agent.py",
        &manifest.replace("serve()", "serve(steerable=True)"),
    );
    let running = project.start(&["run", "listens"]);
    let run = project.until_newest();
    project.until_state(&run, "running");
    project
        .agent(&["runs", "steer", &run, "turn left"])
        .code_is(0);
    project.until_state(&run, "waiting");
    assert_eq!(lines(&project.path("effects")), ["turn left"]);
    project.agent(&["runs", "signal", &run, "go"]).code_is(0);
    assert_eq!(running.ended().code_is(0).stdout, "turn left\n");
    assert_eq!(
        lines(&project.path("effects")),
        ["turn left", "turn left"],
        "each attempt hears it"
    );
}

#[test]
fn an_attempt_that_ends_with_a_question_goes_on_with_the_answer_and_does_no_step_again() {
    let project = Project::new();
    project.python_agent(
        "asks",
        "run.step('before', note, home, 'once')\n\
         if run.resume is None: run.suspend({'ship': {'message': 'Ship it?'}}, state=7)\n\
         if run.state == 7: run.suspend(wake_at='2020-01-01T00:00:00Z', state=8)\n\
         return f\"{run.resume['ship']['action']} {run.state}\"",
    );
    let running = project.start(&["run", "asks"]);
    let run = project.until_newest();
    project.until_state(&run, "input_required");
    project.agent(&["runs", "approve", &run]).code_is(0);
    // The time has long come, so that the third attempt follows at once.
    assert_eq!(running.ended().code_is(0).stdout, "accept 8\n");
    assert_eq!(lines(&project.path("effects")), ["once"]);
}

#[test]
fn an_answer_that_was_there_before_the_question_still_begins_a_new_attempt() {
    let project = Project::new();
    project.python_agent(
        "asks",
        "run.step('before', note, home, 'step')\n\
         note(home, 'began')\n\
         if run.resume is None:\n    run.wait_for_signal('go')\n    run.suspend({'ship': {'message': 'Ship it?'}})\n\
         return run.resume['ship']['action']",
    );
    let running = project.start(&["run", "asks"]);
    let run = project.until_newest();
    project.until_state(&run, "waiting");
    let yes = r#"{"approved": true}"#;
    project
        .agent(&["runs", "signal", &run, "approval:input:ship", yes])
        .code_is(0);
    project.agent(&["runs", "signal", &run, "go"]).code_is(0);
    assert_eq!(running.ended().code_is(0).stdout, "accept\n");
    let effects = lines(&project.path("effects"));
    let began = effects.iter().filter(|line| *line == "began").count();
    assert_eq!((began, effects.len()), (3, 4), "{effects:?}");
    eventually("it has ended", || project.state(&run) == "succeeded");
}
