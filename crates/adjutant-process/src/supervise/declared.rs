//! Services as a configuration declares them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use adjutant_confine::Isolation;
use serde::{Deserialize, Serialize};

use super::{
    event::Child,
    policy::{Restart, RestartPolicy},
    ready::Ready,
    supervisor::Service,
};
use crate::{
    environment::Environment,
    error::{Error, Result},
    isolation,
    limits::Limits,
    manifest::parse,
    port::ProcessSpec,
    program,
    secrets::{Secrets, Variables},
    units::duration,
};

/// A process that is to run for as long as the runtime does, as a configuration has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredService {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The folder to run in, relative to the configuration's. Default: that folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Its variables, besides the inherited ones.
    #[serde(default)]
    pub env: Variables,
    /// Services that have to be ready before it starts, and end after it.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// When it is started again. Default `always`, 3 times in a row, after 1 s, 2 s, 4 s.
    #[serde(default = "always")]
    pub restart: Restart,
    /// Restarts in a row before it has failed for good. Default 3.
    #[serde(default = "three")]
    pub max_restarts: u32,
    /// When it is ready. Default: as soon as it has started.
    #[serde(default)]
    pub ready: DeclaredReady,
    /// Longest time from start to ready. Default 30 s.
    #[serde(default = "start_timeout", with = "duration")]
    pub start_timeout: Duration,
    /// Time between TERM and KILL. Default 10 s.
    #[serde(default = "stop_grace", with = "duration")]
    pub stop_grace: Duration,
    /// Whether it goes on when the runtime is killed, and is taken over by the next one. Default no.
    #[serde(default)]
    pub survives: bool,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// What it may see and change: a profile, or a profile with more. Default `open`.
    #[serde(default, deserialize_with = "parse::isolation")]
    pub isolation: Isolation,
}

/// What shows that a service can do its work; nothing means that it has started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeclaredReady {
    /// Somebody listens there: `HOST:PORT` with a numeric address, or a port of the loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// `GET` of this path there is answered with success; with `port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// This file is there, relative to the service's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

const fn always() -> Restart {
    Restart::Always
}

const fn three() -> u32 {
    3
}

const fn start_timeout() -> Duration {
    Duration::from_secs(30)
}

const fn stop_grace() -> Duration {
    Duration::from_secs(10)
}

impl DeclaredService {
    /// The service of this name. `folder` is the configuration's, `base` what is inherited.
    ///
    /// # Errors
    /// When its program, a secret or its check of readiness cannot be had, each with what is wrong.
    pub fn service(
        &self,
        name: &str,
        folder: &Path,
        base: &Environment,
        secrets: &Secrets,
    ) -> Result<Service> {
        let dir = self
            .dir
            .as_ref()
            .map_or_else(|| folder.to_owned(), |dir| folder.join(dir));
        let env = base.clone().with(&self.env.resolve(folder, secrets)?.env);
        let isolation = isolation::absolute(&self.isolation, &dir, &env);
        let (first, args) = self.command.split_first().ok_or_else(|| Error::NotReady {
            name: name.to_owned(),
            why: "`command` is empty".to_owned(),
        })?;
        let program = program::find(first, &dir, env.get("PATH"), &isolation)?;
        let restart = RestartPolicy {
            when: self.restart,
            max_attempts: self.max_restarts,
            ..RestartPolicy::default()
        };
        Ok(Service {
            child: Child {
                depends_on: self.depends_on.clone(),
                restart,
                start_timeout: self.start_timeout,
                stop_timeout: self.stop_grace,
                ..Child::new(name)
            },
            ready: self.ready.check(&dir).map_err(|why| Error::NotReady {
                name: name.to_owned(),
                why,
            })?,
            process: ProcessSpec {
                program,
                args: args.to_vec(),
                dir,
                env,
                limits: self.limits,
                isolation,
            },
        })
    }
}

impl DeclaredReady {
    fn check(&self, dir: &Path) -> std::result::Result<Ready, String> {
        let address = self.port.as_deref().map(address).transpose()?;
        match (address, &self.path, &self.file) {
            (None, None, None) => Ok(Ready::Started),
            (Some(address), None, None) => Ok(Ready::Port(address)),
            (Some(address), Some(path), None) => Ok(Ready::Http(address, path.clone())),
            (None, None, Some(file)) => Ok(Ready::File(dir.join(file))),
            (None, Some(_), _) => Err("`ready.path` needs `ready.port`".to_owned()),
            _ => Err("`ready` has a port or a file, not both".to_owned()),
        }
    }
}

fn address(text: &str) -> std::result::Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse()
        .map_err(|_| format!("`ready.port` is {text:?}; use a port, or ADDRESS:PORT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> DeclaredService {
        parse::read_yaml(yaml).unwrap()
    }

    fn service(yaml: &str) -> Result<Service> {
        let mut base = Environment::default();
        base.set("PATH", "/usr/bin:/bin");
        read(yaml).service("db", Path::new("/"), &base, &Secrets::default())
    }

    #[test]
    fn a_service_is_restarted_always_unless_it_says_otherwise() {
        let plain = service("command: [sh]").unwrap();
        assert_eq!(plain.child.restart.when, Restart::Always);
        assert_eq!(plain.ready, Ready::Started);
        let no = service("command: [sh]\nrestart: on-failure\nmax_restarts: 7").unwrap();
        assert_eq!(no.child.restart.when, Restart::OnFailure);
        assert_eq!(no.child.restart.max_attempts, 7);
    }

    #[test]
    fn it_is_ready_by_port_path_or_file() {
        let of = |ready: &str| service(&format!("command: [sh]\nready: {ready}"));
        let local = SocketAddr::from(([127, 0, 0, 1], 80));
        assert_eq!(of("{port: 80}").unwrap().ready, Ready::Port(local));
        let http = Ready::Http(local, "/ok".to_owned());
        assert_eq!(of("{port: '127.0.0.1:80', path: /ok}").unwrap().ready, http);
        let file = Ready::File("/tmp/x".into());
        assert_eq!(of("{file: tmp/x}").unwrap().ready, file);
        for wrong in ["{path: /x}", "{port: 80, file: x}", "{port: nowhere}"] {
            assert_eq!(of(wrong).unwrap_err().kind(), "not_ready", "{wrong}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let read = parse::read_yaml::<DeclaredService>("command: [sh]\nrestarts: 3");
        assert!(read.is_err());
    }
}
