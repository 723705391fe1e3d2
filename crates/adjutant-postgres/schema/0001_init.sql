-- Times are microseconds since the Unix epoch, JSON is text as it came. Text that holds a NUL is stored with an
-- escape, see text.rs.

-- What the queue decides on, and nothing large: these rows are rewritten often, mostly within their page.
create table runs (
    id          uuid     not null primary key,
    created_at  bigint   not null,
    ready_at    bigint   not null,
    rank        bigint,            -- place in line, lower goes first
    due_at      bigint,            -- when a sweep has to look: delay, lease or timer
    started_at  bigint,
    finished_at bigint,
    epoch       bigint   not null,
    last_seq    bigint   not null,
    steps       bigint   not null,
    checkpoint  bigint   not null,
    signals     bigint   not null,
    unread      bigint   not null,
    children    bigint   not null,
    attempt     bigint   not null,
    state       smallint not null, -- the code of adjutant_core::RunState
    line        smallint,          -- 1 ready, 2 held back by its concurrency key, null not in line
    priority    smallint not null,
    flags       smallint not null, -- 1 the next claim is a new attempt, 2 pause asked for
    worker      uuid,              -- of a running run; its lease ends at due_at
    parent      uuid,
    agent       text     not null collate "C",
    fanout      text     collate "C", -- the parent's group that it belongs to
    slot        text     collate "C", -- concurrency key
    key         text     collate "C", -- idempotency key
    more        text                  -- rarely used fields as JSON; null when all are default
) with (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);

create index runs_ready on runs (agent, rank, id) where line = 1;
create index runs_oldest on runs (ready_at) where line = 1;
create index runs_blocked on runs (slot, rank, id) where line = 2;
create index runs_running on runs (slot) where slot is not null and state = 1;
create index runs_due on runs (due_at) where due_at is not null;
create index runs_parent on runs (parent, id) where parent is not null;
create index runs_ended on runs (finished_at, id) where state between 5 and 8;
create unique index runs_key on runs (key) where key is not null;
-- For lists. Most runs have succeeded, and of those the primary key finds the latest.
create index runs_agent on runs (agent, id);
create index runs_state on runs (state, id) where state <> 5;

-- Numbers of runs by state and place in line. Each transaction adds a row with its changes, so that none waits for
-- another one; the rows are summed up now and then.
create table counts (
    pending        bigint not null,
    running        bigint not null,
    waiting        bigint not null,
    input_required bigint not null,
    paused         bigint not null,
    succeeded      bigint not null,
    failed         bigint not null,
    cancelled      bigint not null,
    timed_out      bigint not null,
    parked         bigint not null,
    ready          bigint not null,
    blocked        bigint not null
);

create table payloads (
    run      uuid not null primary key,
    input    text not null,
    metadata text -- null for JSON null
);

create table outcomes (
    run  uuid not null primary key,
    body text not null -- what it says depends on the run's state
);

create table steps (
    run         uuid     not null,
    ordinal     bigint   not null,
    input       bigint   not null,
    attempts    bigint   not null,
    started_at  bigint   not null,
    recorded_at bigint   not null,
    state       smallint not null, -- 0 started, 1 completed, 2 failed
    key         text     not null collate "C",
    kind        text     not null collate "C",
    body        text     not null, -- memo, result or error
    primary key (run, key)
);

create table checkpoints (
    run      uuid   not null,
    seq      bigint not null,
    saved_at bigint not null,
    state    text   not null,
    primary key (run, seq)
);

create table events (
    run        uuid     not null,
    seq        bigint   not null,
    at         bigint   not null,
    visibility smallint not null, -- 0 internal, 1 debug, 2 user
    type       text     not null collate "C",
    payload    text     not null,
    primary key (run, seq)
);

create table signals (
    run         uuid   not null,
    id          bigint not null,
    received_at bigint not null,
    name        text   not null,
    payload     text   not null,
    primary key (run, id)
);

create table fanouts (
    run    uuid   not null,
    open   bigint not null, -- children that have not ended
    failed bigint not null, -- children that ended without success
    key    text   not null collate "C",
    primary key (run, key)
);
