//! A store of its own for each test, on a private server.

/// An empty store; its server goes when the tests have gone.
pub struct Fresh {
    url: String,
    /// What hints about backups name.
    pub backup_tool: &'static str,
    /// A URL of this engine at which nobody listens.
    pub nobody: &'static str,
    /// Starts a server that asks for this password, and tells where it is, without the password.
    pub guarded: fn(password: &str) -> Guarded,
    /// Starts a server that can be started again.
    pub restartable: fn() -> Restartable,
    _server: Box<dyn std::any::Any>,
}

/// A server that can be killed and started again.
pub struct Restartable {
    pub url: String,
    /// Kills it.
    pub kill: Box<dyn FnMut()>,
    /// Starts it on the same data.
    pub start: Box<dyn FnMut()>,
}

/// A server that asks for a password.
pub struct Guarded {
    /// `scheme://user@host:port/database`, with `{}` where a password goes, if one goes into the URL.
    template: String,
    _server: Box<dyn std::any::Any>,
}

impl Fresh {
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Guarded {
    pub fn url(&self, password: &str) -> String {
        match password {
            "" => self.template.replace(":{}", ""),
            password => self.template.replace("{}", password),
        }
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::{
        cell::RefCell,
        fs,
        process::Command,
        rc::Rc,
        sync::atomic::{AtomicU32, Ordering},
    };

    use adjutant_servers::{PostgresServer, PostgresSettings, SharedPostgres};

    use super::{Fresh, Guarded, Restartable};

    impl Fresh {
        pub fn postgres() -> Self {
            let server = SharedPostgres::get().unwrap();
            Self {
                url: format!("{}?schema={}", server.url(), name()),
                backup_tool: "pg_dump",
                nobody: "postgres://me:s3cret@127.0.0.1:1/jobs",
                guarded,
                restartable,
                _server: Box::new(server),
            }
        }
    }

    /// A name that no other test of this run has.
    fn name() -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("e2e_{}_{count}", std::process::id())
    }

    fn restartable() -> Restartable {
        let server = PostgresServer::with(PostgresSettings {
            fsync: true,
            ..PostgresSettings::default()
        })
        .unwrap();
        let server = Rc::new(RefCell::new(server));
        let (url, other) = (server.borrow().url(), Rc::clone(&server));
        Restartable {
            url,
            kill: Box::new(move || server.borrow_mut().kill().unwrap()),
            start: Box::new(move || other.borrow_mut().restart().unwrap()),
        }
    }

    fn guarded(password: &str) -> Guarded {
        let mut server = PostgresServer::start_tcp().unwrap();
        let address = server.address().unwrap();
        let set = Command::new("psql")
            .args([
                "-q",
                "-c",
                &format!("alter role postgres password '{password}'"),
            ])
            .arg(format!("postgres://postgres@{address}/postgres"))
            .status();
        // It comes with the server's package.
        assert!(set.unwrap().success());
        let rules = server.data().join("pg_hba.conf");
        fs::write(rules, "host all all 127.0.0.1/32 scram-sha-256\n").unwrap();
        server.restart().unwrap();
        Guarded {
            template: format!("postgres://postgres:{{}}@{address}/postgres"),
            _server: Box::new(server),
        }
    }
}

#[cfg(feature = "redis")]
mod redis {
    use std::{cell::RefCell, rc::Rc};

    use adjutant_servers::{AppendFsync, RedisServer, RedisSettings};

    use super::{Fresh, Guarded, Restartable};

    impl Fresh {
        pub fn redis() -> Self {
            let server = RedisServer::with(RedisSettings {
                fsync: AppendFsync::Always,
                ..RedisSettings::default()
            });
            let server = server.unwrap();
            Self {
                url: server.url(),
                backup_tool: "redis-cli --rdb",
                nobody: "redis://:s3cret@127.0.0.1:1",
                guarded,
                restartable,
                _server: Box::new(server),
            }
        }
    }

    fn restartable() -> Restartable {
        let server = RedisServer::with(RedisSettings {
            fsync: AppendFsync::Always,
            ..RedisSettings::default()
        })
        .unwrap();
        let server = Rc::new(RefCell::new(server));
        let (url, other) = (server.borrow().url(), Rc::clone(&server));
        Restartable {
            url,
            kill: Box::new(move || server.borrow_mut().kill().unwrap()),
            start: Box::new(move || other.borrow_mut().restart().unwrap()),
        }
    }

    fn guarded(password: &str) -> Guarded {
        let settings = RedisSettings {
            tcp: true,
            password: Some(password.to_owned()),
            ..RedisSettings::default()
        };
        let server = RedisServer::with(settings).unwrap();
        Guarded {
            template: format!("redis://:{{}}@{}", server.address().unwrap()),
            _server: Box::new(server),
        }
    }
}
