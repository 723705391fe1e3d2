//! The texts of the writer's queries.

use std::sync::Arc;

use crate::{
    reads::Text,
    record::{COLUMNS, columns_of},
};

/// Statements that are run by name within one text with others, so that they cost no call of their own.
pub(crate) fn prepares() -> String {
    format!(
        "prepare adj_lock (uuid[]) as select {} from runs where id = any ($1) order by id for update; \
         prepare adj_now as select (extract(epoch from clock_timestamp()) * 1000000)::bigint, \
         pg_current_xact_id()::text; \
         prepare adj_ready_one (text, bigint, uuid[]) as {}; \
         prepare adj_ready_some (text[], bigint, uuid[]) as {}; \
         prepare adj_ready_all (text[], bigint, uuid[]) as {}",
        COLUMNS.join(", "),
        ready_of_one(),
        ready_of_some(),
        ready_of_all(),
    )
}

pub(crate) static RUNS: Text = Text::new(|| {
    Arc::from(format!(
        "select {} from runs where id = any ($1) order by id for update",
        COLUMNS.join(", ")
    ))
});
pub(crate) static KEYS: Text =
    Text::new(|| Arc::from("select key, id from runs where key is not null and key = any ($1)"));
pub(crate) static STEPS: Text = Text::new(|| {
    Arc::from(
        "select s.run, s.key, s.ordinal, s.state from unnest($1::uuid[], $2::text[]) as v(run, key) \
         join steps as s on s.run = v.run and s.key = v.key",
    )
});
pub(crate) static FANOUT: Text =
    Text::new(|| Arc::from("select open, failed from fanouts where run = $1 and key = $2"));
pub(crate) static CHILDREN: Text =
    Text::new(|| Arc::from("select id, fanout from runs where parent = $1 order by id"));

/// The head of one agent's line; `$2` at most, without those in `$3`. Runs that another node is at work on are
/// passed over.
fn head(agent: &str) -> String {
    format!(
        "(select * from runs where line = 1 and agent = {agent} and id <> all ($3::uuid[]) \
         order by rank, id limit $2 for update skip locked)"
    )
}

fn with_payload(from: &str, tail: &str) -> String {
    format!(
        "select {}, p.input, p.metadata from {from} left join payloads as p on p.run = r.id \
         order by r.rank, r.id{tail}",
        columns_of("r")
    )
}

fn ready_of_one() -> String {
    with_payload(&format!("{} as r", head("$1")), "")
}
fn ready_of_some() -> String {
    let from = format!(
        "unnest($1) as a(agent) cross join lateral {} as r",
        head("a.agent")
    );
    with_payload(&from, " limit $2")
}

/// From one agent with ready runs to the next, without looking at the runs between. The names are not looked at.
fn ready_of_all() -> String {
    let agents = "with recursive agents (agent) as ( \
         select * from (select agent from runs where line = 1 order by agent limit 1) as first \
         union all \
         select (select r.agent from runs as r where r.line = 1 and r.agent > agents.agent \
                 order by r.agent limit 1) from agents where agents.agent is not null) ";
    let from = format!("agents as a cross join lateral {} as r", head("a.agent"));
    format!("{agents}{}", with_payload(&from, " limit $2"))
}

/// Takes the locks of concurrency keys, in this order. Held until the transaction ends.
pub(crate) static LOCK_KEYS: Text = Text::new(|| {
    Arc::from("select pg_advisory_xact_lock(hashtextextended(k, 0)) from unnest($1::text[]) as k")
});
/// The same for those that nobody else holds.
pub(crate) static TRY_KEYS: Text = Text::new(|| {
    Arc::from(
        "select pg_try_advisory_xact_lock(hashtextextended(k, 0)) from unnest($1::text[]) as k",
    )
});
pub(crate) static RUNNING: Text = Text::new(|| {
    Arc::from(
        "select slot, count(*) from runs where slot is not null and slot = any ($1) and state = 1 \
         group by slot",
    )
});
pub(crate) static BLOCKED: Text = Text::new(|| {
    Arc::from(
        "select rank, id from runs where line = 2 and slot = $1 and id <> all ($2::uuid[]) \
         order by rank, id limit 1 for update",
    )
});
pub(crate) static DUE: Text = Text::new(|| {
    Arc::from(
        "select due_at, id from runs where due_at is not null and due_at <= $1 \
         and id <> all ($3::uuid[]) order by due_at, id limit $2 for update skip locked",
    )
});
pub(crate) static NEXT_DUE: Text = Text::new(|| {
    Arc::from("select due_at from runs where due_at is not null order by due_at, id limit 1")
});
pub(crate) static TRIM: Text =
    Text::new(|| Arc::from("delete from events where run = $1 and seq <= $2"));
pub(crate) static FORGET: Text = Text::new(|| {
    Arc::from(
        "with a as (delete from steps where run = any ($1)) \
         delete from checkpoints where run = any ($1)",
    )
});
pub(crate) static PRUNABLE: Text = Text::new(|| {
    Arc::from(
        "select r.state, r.id from runs as r left join runs as p on p.id = r.parent \
         where r.state between 5 and 8 and r.finished_at < $1 \
         and (r.parent is null or p.id is null or p.state between 5 and 8) \
         order by r.finished_at, r.id limit $2 for update of r skip locked",
    )
});
/// Deletes runs with everything that belongs to them; the counts are added to it.
pub(crate) static PRUNE: Text = Text::new(|| {
    let tables = [
        "events",
        "steps",
        "checkpoints",
        "signals",
        "fanouts",
        "payloads",
        "outcomes",
    ];
    let parts = tables
        .map(|table| format!("of_{table} as (delete from {table} where run = any ($1::uuid[]))"));
    let mut values = 1;
    Arc::from(format!(
        "with {}, counted as ({}) delete from runs where id = any ($1::uuid[])",
        parts.join(", "),
        crate::writes::counts_text(&mut values)
    ))
});
