//! Looking for damage, and for settings that would let some happen.

use adjutant_core::Result;
use adjutant_store::CheckReport;

use crate::{
    db::{Db, Role},
    reader::Readers,
    record,
    schema::Server,
};

/// Each finds the first run that contradicts itself, as text.
const CHECKS: [(&str, &str); 5] = [
    (
        "events",
        "select 'run ' || r.id || ' counts ' || r.last_seq || ' events, its log ends at ' || e.last \
         || ' and has ' || e.here || ' from ' || e.first \
         from runs as r join (select run, max(seq) as last, min(seq) as first, count(*) as here \
         from events group by run) as e on e.run = r.id \
         where e.last <> r.last_seq or e.here <> e.last - e.first + 1 limit 1",
    ),
    (
        "outcomes",
        "select 'run ' || r.id || ' in state ' || r.state || ' has an outcome: ' || (o.run is not null) \
         from runs as r left join outcomes as o on o.run = r.id \
         where (r.state between 5 and 8) <> (o.run is not null) limit 1",
    ),
    (
        "journals",
        "select 'run ' || r.id || ' counts ' || r.steps || ' steps' from runs as r \
         left join (select run, count(*) as here from steps group by run) as s on s.run = r.id \
         where coalesce(s.here, 0) <> r.steps limit 1",
    ),
    (
        "queue",
        "select 'run ' || r.id || ' in state ' || r.state || ' is held wrongly' from runs as r \
         where (r.state = 1) <> (r.worker is not null) or (r.line is not null and r.state <> 0) limit 1",
    ),
    (
        "counts",
        "select 'class ' || c.class || ' counts ' || c.runs || ' runs, there are ' || coalesce(s.here, 0) \
         from (select sums.class, sums.runs from \
           (select sum(pending) as a, sum(running) as b, sum(waiting) as c, sum(input_required) as d, \
            sum(paused) as e, sum(succeeded) as f, sum(failed) as g, sum(cancelled) as h, \
            sum(timed_out) as i, sum(parked) as j, sum(ready) as k, sum(blocked) as l from counts) as t, \
           lateral (values (0, t.a), (1, t.b), (2, t.c), (3, t.d), (4, t.e), (5, t.f), (6, t.g), \
            (7, t.h), (8, t.i), (9, t.j), (10, t.k), (11, t.l)) as sums(class, runs)) as c \
         left join (select state::int as class, count(*) as here from runs group by state \
         union all select 9 + line, count(*) from runs where line in (1, 2) group by line) as s \
         on s.class = c.class where coalesce(s.here, 0) <> coalesce(c.runs, 0) limit 1",
    ),
];

/// Looks through all tables, on a connection without a limit on time.
pub(crate) async fn check(readers: &Readers) -> Result<CheckReport> {
    let mut db = readers.connect(Role::Keeper).await?;
    let mut checks = Vec::new();
    for (name, query) in CHECKS {
        checks.push((name.to_owned(), first_text(&mut db, query).await?));
    }
    let server = Server::ask(&mut db).await.map_err(|told| told.error)?;
    let weak = server.weaknesses();
    let finding = (!weak.is_empty()).then(|| {
        format!(
            "the server has {}: acknowledged writes can be lost",
            weak.join(", ")
        )
    });
    checks.push(("settings".to_owned(), finding));
    db.close().await;
    Ok(CheckReport { checks })
}

async fn first_text(db: &mut Db, query: &str) -> Result<Option<String>> {
    let rows = db.text(query).await.map_err(|told| told.error)?;
    let text = rows.first().map(|row| record::get(row, 0, &db.location));
    text.transpose()
}
