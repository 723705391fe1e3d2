-- The ledger of budgets. What is decided on is in `body`, see adjutant_budget::engine; the other columns find it.
-- Accounts that many runs share are rewritten all the time.
create table accounts (
    name    text   not null collate "C" primary key,
    idle_at bigint,            -- since when it is of no use; null while it may be
    body    text   not null
) with (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);

create index accounts_idle on accounts (idle_at) where idle_at is not null;

create table reservations (
    key       text   not null collate "C" primary key,
    run       uuid   not null,
    opened_at bigint not null,
    closed_at bigint,          -- null while it is open
    body      text   not null
) with (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);

create index reservations_open on reservations (run, key) where closed_at is null;
create index reservations_opened on reservations (opened_at) where closed_at is null;
create index reservations_closed on reservations (closed_at) where closed_at is not null
