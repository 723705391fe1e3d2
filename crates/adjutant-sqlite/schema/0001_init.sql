-- Times are microseconds since the Unix epoch, ids the 16 bytes of a UUIDv7, JSON is text.

-- What the queue decides on, and nothing large: these rows are rewritten often.
create table runs (
    id          blob    not null primary key,
    agent       text    not null,
    state       integer not null, -- the code of adjutant_core::RunState
    line        integer,          -- 1 ready, 2 held back by its concurrency key, null not in line
    rank        integer,          -- place in line, lower goes first
    due_at      integer,          -- when a sweep has to look: delay, lease or timer
    priority    integer not null,
    created_at  integer not null,
    ready_at    integer not null,
    started_at  integer,
    finished_at integer,
    attempt     integer not null,
    epoch       integer not null,
    worker      blob,             -- of a running run; its lease ends at due_at
    flags       integer not null, -- 1 the next claim is a new attempt, 2 pause asked for
    last_seq    integer not null,
    steps       integer not null,
    checkpoint  integer not null,
    signals     integer not null,
    unread      integer not null,
    children    integer not null,
    parent      blob,
    fanout      text,             -- the parent's group that it belongs to
    slot        text,             -- concurrency key
    key         text,             -- idempotency key
    more        text              -- rarely used fields as JSON, see record.rs; null when all are default
) strict, without rowid;

-- The priority rides along so that the age of the oldest ready run can be read off the index.
create index runs_ready on runs (agent, rank, id, priority) where line = 1;
create index runs_blocked on runs (slot, rank, id) where line = 2;
create index runs_running on runs (slot) where slot is not null and state = 1;
create index runs_due on runs (due_at) where due_at is not null;
create index runs_parent on runs (parent) where parent is not null;
create index runs_ended on runs (finished_at) where state between 5 and 8;
create unique index runs_key on runs (key) where key is not null;

-- Runs by state (0 to 9), ready (10) and held back (11), so that nobody has to count. Class -1 counts the
-- transactions that have changed runs: who expects another number has missed somebody's write.
create table counts (
    class integer not null primary key,
    runs  integer not null
) strict;
insert into counts (class, runs)
values (-1, 0), (0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (11, 0);

create table payloads (
    run      blob not null primary key,
    input    text not null,
    metadata text -- null for JSON null
) strict, without rowid;

create table outcomes (
    run  blob not null primary key,
    body text not null -- what it says depends on the run's state, see record.rs
) strict, without rowid;

create table steps (
    run         blob    not null,
    key         text    not null,
    ordinal     integer not null,
    kind        text    not null,
    input       integer not null,
    state       integer not null, -- 0 started, 1 completed, 2 failed
    body        text    not null, -- memo, result or error
    attempts    integer not null,
    started_at  integer not null,
    recorded_at integer not null,
    primary key (run, key)
) strict, without rowid;

create table checkpoints (
    run      blob    not null,
    seq      integer not null,
    state    text    not null,
    saved_at integer not null,
    primary key (run, seq)
) strict, without rowid;

create table events (
    run        blob    not null,
    seq        integer not null,
    at         integer not null,
    type       text    not null,
    visibility integer not null, -- 0 internal, 1 debug, 2 user
    payload    text    not null,
    primary key (run, seq)
) strict, without rowid;

create table signals (
    run         blob    not null,
    id          integer not null,
    name        text    not null,
    payload     text    not null,
    received_at integer not null,
    primary key (run, id)
) strict, without rowid;

create table fanouts (
    run    blob    not null,
    key    text    not null,
    open   integer not null, -- children that have not ended
    failed integer not null, -- children that ended without success
    primary key (run, key)
) strict, without rowid;
