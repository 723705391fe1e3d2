//! What SQLite's result codes mean to the contracts. All of the mapping is here.

use std::path::Path;

use adjutant_core::Error;

/// Primary result codes, see <https://www.sqlite.org/rescode.html>.
mod code {
    pub const BUSY: i32 = 5;
    pub const LOCKED: i32 = 6;
    pub const READONLY: i32 = 8;
    pub const IOERR: i32 = 10;
    pub const CORRUPT: i32 = 11;
    pub const FULL: i32 = 13;
    pub const CANTOPEN: i32 = 14;
    pub const NOTADB: i32 = 26;
    /// A constraint refuses a null, a primary key, or a unique key.
    pub const OVERTAKEN: [i32; 3] = [19 | (5 << 8), 19 | (6 << 8), 19 | (8 << 8)];
    /// Extended codes that only a full disk explains: memory for the shared index could not be had.
    pub const IOERR_SHMSIZE: i32 = 10 | (19 << 8);
}

/// Turns an error of sqlx into one of the contracts'.
pub(crate) fn from_sqlx(error: sqlx::Error, action: &'static str, path: &Path) -> Error {
    let location = || path.display().to_string();
    let code = result_code(&error);
    match code.map(|code| (code & 0xff, code)) {
        Some((code::FULL, _) | (_, code::IOERR_SHMSIZE)) => Error::StorageFull {
            location: location(),
        },
        Some((code::IOERR, _)) if disk_is_full(path) => Error::StorageFull {
            location: location(),
        },
        Some((code::READONLY, _)) => Error::ReadOnly {
            location: location(),
        },
        Some((code::CANTOPEN, _)) if cannot_create(path) => Error::ReadOnly {
            location: location(),
        },
        Some((code::CORRUPT | code::NOTADB, _)) => Error::Corrupt {
            location: location(),
            problem: error.to_string(),
        },
        Some((code::BUSY | code::LOCKED, _)) => Error::Backend {
            action,
            transient: true,
            source: Box::new(error),
        },
        _ => Error::Backend {
            action,
            transient: false,
            source: Box::new(error),
        },
    }
}

/// A stored value that cannot be what was written.
pub(crate) fn corrupt(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::Corrupt {
        location: path.display().to_string(),
        problem: problem.to_string(),
    }
}

/// Whether the file is not as it was taken to be: a run or key is there already, or the count of transactions
/// is another one, which makes it null (see `writes.rs`).
pub(crate) fn is_overtaken(error: &sqlx::Error) -> bool {
    let code = result_code(error);
    code.is_some_and(|code| code::OVERTAKEN.contains(&code))
}

/// Whether somebody else holds the lock that was asked for.
pub(crate) fn is_busy(error: &sqlx::Error) -> bool {
    result_code(error).is_some_and(|code| matches!(code & 0xff, code::BUSY | code::LOCKED))
}

fn result_code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// SQLite reports some failures to write on a full disk as plain I/O errors.
fn disk_is_full(path: &Path) -> bool {
    let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    rustix::fs::statvfs(directory.unwrap_or_else(|| Path::new(".")))
        .is_ok_and(|disk| disk.f_bavail < 4)
}

/// SQLite cannot open what it cannot create: then the directory is there and takes no files.
fn cannot_create(path: &Path) -> bool {
    let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    directory.is_dir()
        && !path.is_dir()
        && rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).is_err()
}
