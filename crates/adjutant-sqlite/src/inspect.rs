//! Looking for damage, and copying the store while it is in use.

use std::path::Path;

use adjutant_core::{Error, Result};
use adjutant_store::CheckReport;
use sqlx::{AssertSqlSafe, Executor};

use crate::{SqliteConfig, db::Db, error::from_sqlx, reader::Readers, record};

/// Each finds the first run that contradicts itself, as text.
const CHECKS: [(&str, &str); 5] = [
    (
        "events",
        "select 'run ' || hex(r.id) || ' counts ' || r.last_seq || ' events, its log ends at ' || e.last \
         || ' and has ' || e.here || ' from ' || e.first \
         from runs as r join (select run, max(seq) as last, min(seq) as first, count(*) as here \
         from events group by run) as e on e.run = r.id \
         where e.last <> r.last_seq or e.here <> e.last - e.first + 1 limit 1",
    ),
    (
        "outcomes",
        "select 'run ' || hex(r.id) || ' in state ' || r.state || ' has an outcome: ' || (o.run is not null) \
         from runs as r left join outcomes as o on o.run = r.id \
         where (r.state between 5 and 8) <> (o.run is not null) limit 1",
    ),
    (
        "journals",
        "select 'run ' || hex(r.id) || ' counts ' || r.steps || ' steps' from runs as r \
         left join (select run, count(*) as here from steps group by run) as s on s.run = r.id \
         where coalesce(s.here, 0) <> r.steps limit 1",
    ),
    (
        "queue",
        "select 'run ' || hex(r.id) || ' in state ' || r.state || ' is held wrongly' from runs as r \
         where (r.state = 1) <> (r.worker is not null) or (r.line is not null and r.state <> 0) limit 1",
    ),
    (
        "counts",
        "select 'class ' || c.class || ' counts ' || c.runs || ' runs' from counts as c \
         left join (select state as class, count(*) as here from runs group by state \
         union all select 9 + line, count(*) from runs where line in (1, 2) group by line) as s \
         on s.class = c.class where c.class >= 0 and coalesce(s.here, 0) <> c.runs limit 1",
    ),
];

pub(crate) async fn check(readers: &Readers) -> Result<CheckReport> {
    let mut reader = readers.get().await?;
    let db = reader.db()?;
    let sound = first_text(db, "pragma integrity_check(1)").await?;
    let mut checks = vec![("file".to_owned(), sound.filter(|text| text != "ok"))];
    for (name, query) in CHECKS {
        checks.push((name.to_owned(), first_text(db, query).await?));
    }
    Ok(CheckReport { checks })
}

async fn first_text(db: &mut Db, query: &'static str) -> Result<Option<String>> {
    let path = db.path().to_owned();
    let row = db.raw().fetch_optional(query).await;
    let row = row.map_err(|error| from_sqlx(error, "check the store", &path))?;
    row.map(|row| record::get(&row, 0, &path)).transpose()
}

pub(crate) async fn backup(config: &SqliteConfig, to: &Path) -> Result<()> {
    let invalid = |problem: String| Error::Invalid {
        field: "backup",
        problem,
    };
    if to.try_exists().unwrap_or(true) {
        return Err(invalid(format!("{} exists already", to.display())));
    }
    let Some(name) = to.to_str() else {
        return Err(invalid("the file's name must be UTF-8".to_owned()));
    };
    // A connection of its own: a copy takes long, and readers are few.
    let mut db = Db::reader(config).await?;
    let text = format!("vacuum into '{}'", name.replace('\'', "''"));
    let copied = db.raw().execute(AssertSqlSafe(text)).await;
    db.close().await;
    copied.map_err(|error| from_sqlx(error, "copy the store", to))?;
    let synced = sync(to).await;
    synced.map_err(|error| Error::Backend {
        action: "sync the copy",
        transient: false,
        source: Box::new(error),
    })
}

/// Makes a file and its name durable.
async fn sync(file: &Path) -> std::io::Result<()> {
    let file = file.to_owned();
    let synced = tokio::task::spawn_blocking(move || {
        std::fs::File::open(&file)?.sync_all()?;
        let directory = file.parent().filter(|dir| !dir.as_os_str().is_empty());
        std::fs::File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
    });
    synced.await.map_err(std::io::Error::other)?
}
