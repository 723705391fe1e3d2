//! A world with something to break out to.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    fs::{self, File, Permissions},
    net::{TcpListener, UdpSocket},
    os::{
        fd::AsRawFd,
        linux::net::SocketAddrExt,
        unix::{
            fs::{PermissionsExt, chown},
            net::{SocketAddr, UnixListener},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use adjutant_confine::{Confinement, Isolation, Network, Places, Profile, Support};
use serde_json::json;
use tempfile::TempDir;

/// The user and group `nobody`.
const NOBODY: u32 = 65_534;

/// Folders, processes and sockets, some of them the agent's. All is gone when it is dropped.
pub struct World {
    folder: TempDir,
    victim: Child,
    tcp: TcpListener,
    _udp: UdpSocket,
    _unix: UnixListener,
    _named: UnixListener,
    abstract_name: String,
    leaked: File,
    user: Option<u32>,
}

impl World {
    /// For an agent of the user that runs the test.
    pub fn new() -> Self {
        Self::of(None)
    }

    /// For an agent of an ordinary user; only root can have such a one.
    pub fn of_nobody() -> Self {
        Self::of(Some(NOBODY))
    }

    fn of(user: Option<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_confine-probe"));
        for name in ["", "outside", "work", "code", "home", "temp"] {
            let folder = root.join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        }
        fs::copy(program, root.join("code/probe")).unwrap();
        fs::copy(program, root.join("work/setuid")).unwrap();
        for folder in ["outside", "home"] {
            fs::write(
                root.join(folder).join("secret"),
                "a secret of somebody else",
            )
            .unwrap();
        }
        for name in ["outside", "work", "code", "home", "temp", "outside/secret"] {
            chown(root.join(name), user, user).unwrap();
        }
        if am_root() {
            let other = if user.is_some() { 0 } else { NOBODY };
            chown(root.join("work/setuid"), Some(other), None).unwrap();
            fs::set_permissions(root.join("work/setuid"), Permissions::from_mode(0o4755)).unwrap();
        }
        let (tcp, udp) = port_for_both();
        let abstract_name = root.to_string_lossy().into_owned();
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let leaked = File::open(root.join("outside")).unwrap();
        rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
        let named = UnixListener::bind(root.join("outside/socket")).unwrap();
        let mut victim = Command::new("/bin/sleep");
        victim
            .arg("300")
            .env("API_KEY", "secret")
            .current_dir(root.join("outside"));
        as_user(&mut victim, user);
        Self {
            victim: victim.spawn().unwrap(),
            folder,
            tcp,
            _udp: udp,
            _unix: UnixListener::bind_addr(&address).unwrap(),
            _named: named,
            abstract_name,
            leaked,
            user,
        }
    }

    /// Whether the agent's user is not root.
    pub fn is_ordinary(&self) -> bool {
        self.user.is_some() || !am_root()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    pub fn places(&self) -> Places {
        Places {
            code: self.path("code"),
            work: self.path("work"),
            temp: self.path("temp"),
            home: Some(self.path("home")),
        }
    }

    pub fn facts(&self, plan: &Confinement) -> String {
        let victim = self.victim.id();
        json!({
            "outside": self.path("outside"),
            "work": self.path("work"),
            "code": self.path("code"),
            "home": self.path("home"),
            "victim": victim,
            "first": if plan.has_own_view() { 1 } else { victim },
            "port": self.tcp.local_addr().unwrap().port(),
            "abstract_name": self.abstract_name,
            "leaked": self.leaked.as_raw_fd(),
        })
        .to_string()
    }

    /// What this machine enforces for the agent's user.
    pub fn support(&self) -> Support {
        let output = self.command(&["support"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn plan(&self, profile: Profile, network: Option<Network>) -> Confinement {
        let isolation = Isolation {
            network,
            ..Isolation::of(profile)
        };
        let support = self.support();
        Confinement::plan(&isolation, &self.places(), &support, false)
            .unwrap_or_else(|refused| panic!("{profile}: {refused}"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("code/probe"));
        command
            .args(arguments)
            .stdin(Stdio::null())
            .current_dir("/");
        as_user(&mut command, self.user);
        command
    }

    /// Starts a program under a plan, to its end.
    pub fn launch(&self, plan: &Confinement, program: &[&str]) -> Output {
        let own_view = plan.has_own_view();
        let plan = serde_json::to_string(plan).unwrap();
        let mut command = self.command(&["launch", &plan]);
        let temp = self.path("temp");
        let temp = if own_view { Path::new("/tmp") } else { &temp };
        command
            .args(program)
            .env("HOME", self.path("home"))
            .env("TMPDIR", temp);
        command.output().unwrap()
    }

    /// Makes attempts under a plan: the error's number for each, 0 where it worked.
    pub fn attempts(&self, plan: &Confinement, names: &[&str]) -> Vec<i32> {
        let probe = self.path("code/probe");
        let facts = self.facts(plan);
        let mut program = vec![probe.to_str().unwrap(), "try", &facts];
        program.extend(names);
        let output = self.launch(plan, &program);
        assert!(output.status.success(), "{output:?}");
        let shown = String::from_utf8(output.stdout).unwrap();
        let answers = shown.lines().map(|line| line.rsplit_once(' ').unwrap());
        let answers: Vec<_> = answers.collect();
        assert_eq!(
            answers.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            names
        );
        answers
            .iter()
            .map(|(_, number)| number.parse().unwrap())
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

pub fn am_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn as_user(command: &mut Command, user: Option<u32>) {
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
}

fn port_for_both() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            return (tcp, udp);
        }
    }
}
