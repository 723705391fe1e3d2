-- The ledger of budgets. What is decided on is in `body`, see adjutant_budget::engine; the other columns find it.

create table accounts (
    name    text not null primary key,
    idle_at integer, -- since when it is of no use; null while it may be
    body    text not null
) strict, without rowid;

create index accounts_idle on accounts (idle_at) where idle_at is not null;

create table reservations (
    key       text    not null primary key,
    run       blob    not null,
    opened_at integer not null,
    closed_at integer, -- null while it is open
    body      text    not null
) strict, without rowid;

create index reservations_open on reservations (run) where closed_at is null;
create index reservations_closed on reservations (closed_at) where closed_at is not null;
