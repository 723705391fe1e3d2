//! What was spent, and ending what spends.

use adjutant::{
    RunId, StoreOptions,
    budget::{Account, Amount, Caps, Claim, Period, ReservationKey, Reserve},
    open_store,
    queue::{NewRun, ParentLink},
};

use crate::support::Project;

/// Does something with the project's store, as a worker would.
fn with_store<T>(project: &Project, act: impl AsyncFnOnce(&dyn adjutant::Store) -> T) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let file = project.path(".adjutant/adjutant.db");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let url = format!("sqlite://{}", file.display());
        let store = open_store(&url, StoreOptions::default()).await.unwrap();
        let answer = act(&*store).await;
        store.close().await;
        answer
    })
}

/// A call that was settled, and one that is under way.
async fn spend(store: &dyn adjutant::Store, run: RunId) {
    let ledger = store.ledger();
    let caps = Caps {
        tokens: Some(10_000),
        ..Caps::default()
    };
    let amount = Amount {
        tokens: 4000,
        micro_usd: 1_500_000,
        ..Amount::ZERO
    };
    for step in ["first", "second"] {
        let key = ReservationKey::step(run, 1, step).unwrap();
        let tenant = Claim::new(Account::tenant("acme").unwrap(), caps).per(Period::Month);
        let claims = vec![Claim::new(Account::run(run), caps), tenant];
        let reserve = Reserve {
            key: key.clone(),
            run,
            claims,
            amount,
        };
        assert!(ledger.reserve(reserve).await.unwrap().is_granted());
        if step == "first" {
            ledger.settle(&key, amount).await.unwrap();
        }
    }
}

#[test]
fn budgets_are_listed_shown_and_reset() {
    let project = Project::new();
    with_store(&project, async |_| ());
    let empty = project.agent(&["budgets", "list", "-o", "json"]);
    assert_eq!(empty.code_is(0).json(), serde_json::json!([]));
    let run = RunId::new();
    with_store(&project, async |store| spend(store, run).await);

    let listed = project.agent(&["budgets", "list"]);
    let listed = listed.code_is(0);
    assert!(listed.stdout.contains("4000 + 4000 of 10000"), "{listed:?}");
    assert!(listed.stdout.contains("$1.50 + $1.50"), "{listed:?}");
    let tenants = project.agent(&["budgets", "list", "tenant:", "-o", "json"]);
    let tenants = tenants.code_is(0).json();
    assert_eq!(tenants.as_array().unwrap().len(), 1);
    let month = tenants[0]["account"].as_str().unwrap();
    assert!(month.starts_with("tenant:acme@20"), "{month}");

    let account = format!("run:{run}");
    let shown = project.agent(&["budgets", "show", &account, "-o", "json"]);
    let shown = shown.code_is(0).json();
    assert_eq!(shown[0]["spent"]["tokens"], 4000);
    assert_eq!(shown[0]["open"].as_array().unwrap().len(), 1);
    let shown = project.agent(&["budgets", "show", &account]);
    assert!(shown.stdout.contains("second since"), "{shown:?}");
    // Without its period, a name stands for all of them.
    let shown = project.agent(&["budgets", "show", "tenant:acme"]);
    assert!(shown.code_is(0).stdout.contains(month), "{shown:?}");

    project
        .agent(&["budgets", "reset", "tenant:acme"])
        .refused(2, "account_not_found")
        .says(month);
    project.agent(&["budgets", "reset", month]).code_is(0);
    let shown = project.agent(&["budgets", "show", month, "-o", "json"]);
    let shown = shown.code_is(0).json();
    assert_eq!(shown[0]["spent"]["tokens"], 0);
    assert_eq!(shown[0]["reserved"]["tokens"], 4000);
    project
        .agent(&["budgets", "show", "tenant:nobody"])
        .refused(2, "account_not_found");
}

/// A run with a child and a grandchild.
async fn family(store: &dyn adjutant::Store) -> [RunId; 3] {
    let mut runs = Vec::new();
    for agent in ["root", "child", "grandchild"] {
        let mut run = NewRun::with_json(agent, adjutant::Json::null());
        run.parent = runs.last().map(|run| ParentLink {
            run: *run,
            group: "below".into(),
        });
        runs.push(store.submit(vec![run]).await.unwrap()[0].run);
    }
    runs.try_into().unwrap()
}

#[test]
fn killing_a_tree_ends_all_of_it_and_tells_who_and_why() {
    let project = Project::new();
    let [root, child, grandchild] = with_store(&project, family);
    let other = with_store(&project, family)[0];
    let root = root.to_string();
    let arguments = [
        "kill", &root, "--tree", "--reason", "too dear", "-o", "json",
    ];
    let mut command = project.command(&arguments);
    command.env("USER", "ada");
    let killed = project.start_with(&mut command).ended();
    let killed = killed.code_is(0).json();
    assert_eq!(killed["runs"].as_array().unwrap().len(), 3);
    let reason = killed["reason"].as_str().unwrap();
    assert!(
        reason.contains("ada") && reason.contains("too dear"),
        "{reason}"
    );
    for run in [root.clone(), child.to_string(), grandchild.to_string()] {
        let view = project.show(&run);
        assert_eq!(view["state"], "cancelled");
        assert_eq!(view["reason"], reason);
    }
    assert_eq!(project.state(&other.to_string()), "pending");
    project
        .agent(&["kill", &root, "--tree"])
        .code_is(0)
        .says("nothing was left to end");
}

#[test]
fn a_tree_is_killed_although_its_root_has_ended() {
    let project = Project::new();
    project.shell_agent("echo", "cat > /dev/null; echo ok");
    project.agent(&["run", "echo", "-q"]).code_is(0);
    let root = project.newest();
    let child = with_store(&project, async |store| {
        let mut run = NewRun::with_json("child", adjutant::Json::null());
        run.parent = Some(ParentLink {
            run: root.parse().unwrap(),
            group: "below".into(),
        });
        store.submit(vec![run]).await.unwrap()[0].run
    });
    let child = child.to_string();
    project
        .agent(&["kill", &root])
        .code_is(0)
        .says("nothing was left to end");
    assert_eq!(project.state(&child), "pending");
    project
        .agent(&["kill", &root, "--tree"])
        .code_is(0)
        .says(&child);
    assert_eq!(project.state(&child), "cancelled");
    assert_eq!(project.state(&root), "succeeded");
}
