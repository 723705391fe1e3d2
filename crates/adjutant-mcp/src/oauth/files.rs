//! Tokens in files.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Account, Grant, TokenStore};

/// Grants in a folder, one file each, for nobody's eyes but the user's.
#[derive(Debug, Clone)]
pub struct FileTokens {
    dir: PathBuf,
}

/// What a file holds. The names are in it so that a file found by its own name is the right one.
#[derive(Serialize, Deserialize)]
struct Kept {
    issuer: String,
    account: Account,
    grant: Grant,
}

impl FileTokens {
    /// Keeps grants in this folder, which is made when the first is kept.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn file(&self, account: &Account, issuer: &str) -> PathBuf {
        let name = format!("{}-{}.json", start(account), digest(&[issuer]));
        self.dir.join(name)
    }

    fn make_dir(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
    }
}

/// What the names of an account's files begin with.
fn start(account: &Account) -> String {
    let Account {
        resource,
        tenant,
        principal,
    } = account;
    digest(&[resource, &format!("{tenant:?}"), &format!("{principal:?}")])
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // Lengths keep parts apart, whatever is in them.
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let bytes = hash.finalize();
    bytes[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn read(file: &Path) -> io::Result<Option<Kept>> {
    match fs::read(file) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn private(file: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
}

#[async_trait]
impl TokenStore for FileTokens {
    async fn issuers(&self, account: &Account) -> io::Result<Vec<String>> {
        let start = start(account);
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut issuers = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(&start) && name.ends_with(".json") {
                let kept = read(&path)?.filter(|kept| kept.account == *account);
                issuers.extend(kept.map(|kept| kept.issuer));
            }
        }
        Ok(issuers)
    }

    async fn load(&self, account: &Account, issuer: &str) -> io::Result<Option<Grant>> {
        let kept = read(&self.file(account, issuer))?;
        let right = |kept: &Kept| kept.account == *account && kept.issuer == issuer;
        Ok(kept.filter(right).map(|kept| kept.grant))
    }

    async fn save(&self, account: &Account, issuer: &str, grant: &Grant) -> io::Result<()> {
        self.make_dir()?;
        let kept = Kept {
            issuer: issuer.to_owned(),
            account: account.clone(),
            grant: grant.clone(),
        };
        let file = self.file(account, issuer);
        let new = file.with_extension(format!("{}.new", std::process::id()));
        let mut out = private(&new)?;
        out.write_all(&serde_json::to_vec(&kept)?)?;
        out.sync_all()?;
        // Readers see the old or the new one, never a half.
        fs::rename(new, file)
    }

    async fn forget(&self, account: &Account, issuer: &str) -> io::Result<()> {
        match fs::remove_file(self.file(account, issuer)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn lock(&self, account: &Account, issuer: &str) -> io::Result<Box<dyn Send>> {
        self.make_dir()?;
        let path = self.file(account, issuer).with_extension("lock");
        let locked = tokio::task::spawn_blocking(move || {
            let file = private(&path)?;
            file.lock()?;
            io::Result::Ok(file)
        });
        Ok(Box::new(locked.await.map_err(io::Error::other)??))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_grant_is_its_accounts_and_its_issuers_and_nobody_elses_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileTokens::new(dir.path().join("oauth"));
        let account = |principal: Option<&str>| Account {
            resource: "https://a.example/mcp".into(),
            tenant: None,
            principal: principal.map(str::to_owned),
        };
        let ada = account(Some("ada"));
        let grant = Grant {
            client_id: "me".into(),
            client_secret: Some("hush".into()),
            tokens: json!({ "access_token": "hush" }),
        };
        assert!(!format!("{grant:?}").contains("hush"));
        store.save(&ada, "https://i.example", &grant).await.unwrap();
        assert!(
            store
                .load(&ada, "https://i.example")
                .await
                .unwrap()
                .is_some()
        );
        assert!(
            store
                .load(&ada, "https://j.example")
                .await
                .unwrap()
                .is_none()
        );
        for other in [account(Some("bob")), account(None)] {
            assert!(store.issuers(&other).await.unwrap().is_empty());
            assert!(
                store
                    .load(&other, "https://i.example")
                    .await
                    .unwrap()
                    .is_none()
            );
        }
        let file = store.file(&ada, "https://i.example");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&store.dir)), (0o600, 0o700));
        store.forget(&ada, "https://i.example").await.unwrap();
        assert!(store.issuers(&ada).await.unwrap().is_empty());
    }
}
