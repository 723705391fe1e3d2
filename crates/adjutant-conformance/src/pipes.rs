//! A started process and the bytes between it and us.

use std::{
    io::{self, Read, Write},
    net::TcpListener,
    os::unix::net::{UnixListener, UnixStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use adjutant_wire::{
    Decoder, Frame, Message,
    transport::{ADDRESS_VARIABLE, TOKEN_VARIABLE},
};
use tempfile::TempDir;

use crate::{
    fault::{Check, Fault, broke},
    program::{Program, Transport},
    websocket,
};

/// Frames that may wait to be looked at; a full queue stops the reading, as a busy host does.
const QUEUE: usize = 64;

/// The end of a process's last words that a fault shows.
const STDERR_CHARS: usize = 600;

/// Writes whole lines to the agent.
pub(crate) type Out = Box<dyn Write + Send>;
pub(crate) type In = Box<dyn Read + Send>;

/// One live process.
pub(crate) struct Pipes {
    pub(crate) child: Child,
    pub(crate) out: Option<Out>,
    pub(crate) frames: Receiver<Frame>,
    gate: Arc<Gate>,
    stderr: Arc<Mutex<String>>,
    /// Holds the socket's folder.
    _dir: Option<TempDir>,
}

/// Lets a case keep the reader from reading.
#[derive(Default)]
pub(crate) struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let shut = self.shut.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(shut, |shut| *shut));
    }

    pub(crate) fn set(&self, shut: bool) {
        *self.shut.lock().unwrap_or_else(PoisonError::into_inner) = shut;
        self.opened.notify_all();
    }
}

/// Where the program is to connect to.
enum Door {
    Stdio,
    Unix(UnixListener, TempDir),
    Tcp(TcpListener),
}

impl Pipes {
    /// Starts the program and, on a socket, waits until it has connected.
    pub(crate) fn start(program: &Program) -> Check<Self> {
        let mut command = program_command(program)?;
        let door = open_door(program, &mut command)?;
        let is_stdio = matches!(door, Door::Stdio);
        let mut child = command
            .spawn()
            .map_err(|error| Fault::Broke(format!("start {:?}: {error}", program.command)))?;
        let stderr = Arc::<Mutex<String>>::default();
        keep(child.stderr.take(), stderr.clone());
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let connected = match door {
            Door::Stdio => match (stdin, stdout) {
                (Some(stdin), Some(stdout)) => {
                    Ok((Box::new(stdout) as In, Box::new(stdin) as Out, None))
                }
                _ => Err(io::Error::other("no pipes")),
            },
            Door::Unix(listener, dir) => accept(&listener, program.patience, |listener| {
                listener.accept().map(|(stream, _)| stream)
            })
            .and_then(|stream| {
                stream.set_nonblocking(false)?;
                let out = stream.try_clone()?;
                Ok((
                    Box::new(stream) as In,
                    Box::new(UnixOut(out)) as Out,
                    Some(dir),
                ))
            }),
            Door::Tcp(listener) => accept(&listener, program.patience, |listener| {
                listener.accept().map(|(stream, _)| stream)
            })
            .and_then(websocket::welcome)
            .map(|(input, out)| (input, out, None)),
        };
        let gate = Arc::<Gate>::default();
        let connected = connected.map(|(input, out, dir)| (read(input, gate.clone()), out, dir));
        match connected {
            Ok((frames, out, dir)) => Ok(Self {
                child,
                out: Some(out),
                frames,
                gate,
                stderr,
                _dir: dir,
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                let on = if is_stdio { "its pipes" } else { "the socket" };
                broke(format!("the program did not come to {on}: {error}"))
            }
        }
    }

    /// The end of what the process wrote to stderr.
    pub(crate) fn last_words(&self) -> String {
        let text = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = text.chars().count().saturating_sub(STDERR_CHARS);
        text.chars()
            .skip(skip)
            .collect::<String>()
            .trim()
            .to_owned()
    }

    /// Keeps the reader from reading, or lets it.
    pub(crate) fn stop_reading(&self, stop: bool) {
        self.gate.set(stop);
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        self.gate.set(false);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The writing side of a Unix socket; dropping it tells the agent, although the reading side stays open.
struct UnixOut(UnixStream);

impl Write for UnixOut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for UnixOut {
    fn drop(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }
}

/// The program's command with pipes.
pub(crate) fn program_command(program: &Program) -> Check<Command> {
    let Some((name, args)) = program.command.split_first() else {
        return broke("no command was given");
    };
    let mut command = Command::new(name);
    command
        .args(args)
        .envs(program.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(dir) = &program.dir {
        command.current_dir(dir);
    }
    Ok(command)
}

/// The token that the program has to say on a socket.
pub(crate) const TOKEN: &str = "conformance-5fe0c1";

fn open_door(program: &Program, command: &mut Command) -> Check<Door> {
    let (door, address) = match program.transport {
        Transport::Stdio => (Door::Stdio, "stdio".to_owned()),
        Transport::Unix => {
            let dir = tempfile::tempdir()?;
            let path = dir.path().join("wire.sock");
            let address = format!("unix:{}", path.display());
            let listener = UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            (Door::Unix(listener, dir), address)
        }
        Transport::WebSocket => {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            listener.set_nonblocking(true)?;
            let address = format!("ws://{}/wire", listener.local_addr()?);
            (Door::Tcp(listener), address)
        }
    };
    command.env(ADDRESS_VARIABLE, address);
    if program.transport != Transport::Stdio {
        command
            .env(TOKEN_VARIABLE, TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
    }
    Ok(door)
}

fn accept<L, S>(
    listener: &L,
    patience: Duration,
    accept: impl Fn(&L) -> io::Result<S>,
) -> io::Result<S> {
    let by = Instant::now() + patience;
    loop {
        match accept(listener) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < by => {
                thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

fn read(mut input: In, gate: Arc<Gate>) -> Receiver<Frame> {
    let (sender, frames) = sync_channel(QUEUE);
    thread::spawn(move || {
        let (mut decoder, mut piece) = (Decoder::default(), vec![0; 16 * 1024]);
        loop {
            gate.pass();
            let Ok(count @ 1..) = input.read(&mut piece) else {
                break;
            };
            decoder.push(piece.get(..count).unwrap_or_default());
            if !hand_on(&mut decoder, &sender) {
                return;
            }
        }
        if let Some(frame) = decoder.finish() {
            let _ = sender.send(frame);
        }
    });
    frames
}

fn hand_on(decoder: &mut Decoder, frames: &SyncSender<Frame>) -> bool {
    while let Some(frame) = decoder.next_frame() {
        // Answers to a request that nobody can read are for the case to see, too.
        if frames.send(frame).is_err() {
            return false;
        }
    }
    true
}

fn keep(stderr: Option<impl Read + Send + 'static>, text: Arc<Mutex<String>>) {
    let Some(mut stderr) = stderr else { return };
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut piece) {
            let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&String::from_utf8_lossy(
                piece.get(..count).unwrap_or_default(),
            ));
            if text.len() > 64 * 1024 {
                text.clear();
            }
        }
    });
}

/// One message as a line.
pub(crate) fn line(message: impl Into<Message>) -> Vec<u8> {
    adjutant_wire::encode(&message.into()).into_bytes()
}
