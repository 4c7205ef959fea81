//! Processes: commands that end, and the gateway, which does not.

use super::{PATIENCE, http::Partner};
use serde_json::Value;
use std::{
    io::Read,
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// A command that has ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap_or_else(|error| panic!("failed to run {command:?}: {error}"));
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        }
    }
}

/// What a process has printed so far, stdout and stderr in one.
#[derive(Default)]
struct Printed {
    text: Mutex<(String, usize)>,
    changed: Condvar,
}

impl Printed {
    fn read(self: &Arc<Self>, mut pipe: impl Read + Send + 'static) {
        let printed = Arc::clone(self);
        printed.text.lock().unwrap_or_else(PoisonError::into_inner).1 += 1;
        thread::spawn(move || {
            let mut bytes = [0_u8; 16 << 10];
            loop {
                let read = pipe.read(&mut bytes).unwrap_or(0);
                let mut text = printed.text.lock().unwrap_or_else(PoisonError::into_inner);
                text.0 += &String::from_utf8_lossy(&bytes[..read]);
                text.1 -= usize::from(read == 0);
                drop(text);
                printed.changed.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
    }

    /// Waits until something is there to be found, or the process has ended.
    fn find<T>(&self, limit: Duration, find: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |text: &mut (String, usize)| text.1 > 0 && find(&text.0).is_none();
        let (text, _) =
            self.changed.wait_timeout_while(text, limit, waits).unwrap_or_else(PoisonError::into_inner);
        find(&text.0).ok_or_else(|| text.0.clone())
    }

    fn ended(&self, limit: Duration) -> bool {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(text, limit, |text| text.1 > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.1 == 0
    }
}

/// A gateway's process. It is killed when the test ends, however it ends.
pub(crate) struct Gateway {
    child: Child,
    printed: Arc<Printed>,
}

impl Gateway {
    /// Starts it and waits until it serves.
    pub(crate) fn start(command: &mut Command) -> Self {
        let gateway = Self::begin(command);
        gateway.address();
        gateway
    }

    /// Starts it and waits for nothing.
    pub(crate) fn begin(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the gateway starts");
        let printed = Arc::new(Printed::default());
        printed.read(child.stdout.take().expect("stdout is a pipe"));
        printed.read(child.stderr.take().expect("stderr is a pipe"));
        Self { child, printed }
    }

    /// Where it serves, once it does.
    pub(crate) fn address(&self) -> SocketAddr {
        self.wait_for("the gateway to be ready", served_at)
    }

    /// Where it serves, if it does by now.
    pub(crate) fn is_ready(&self) -> Option<SocketAddr> {
        self.printed.find(Duration::ZERO, served_at).ok()
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A partner of this gateway.
    pub(crate) fn partner<'a>(&self, login: (&'a str, &'a str)) -> Partner<'a> {
        Partner { address: self.address(), login }
    }

    /// Waits until what it has printed satisfies.
    pub(crate) fn wait_for<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        self.printed
            .find(PATIENCE, find)
            .unwrap_or_else(|printed| panic!("waited for {what}; printed: {printed}"))
    }

    /// Everything it has printed so far.
    pub(crate) fn printed(&self) -> String {
        self.printed.text.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Lets it run a little longer; true if it ended meanwhile.
    pub(crate) fn ends_within(&self, moment: Duration) -> bool {
        self.printed.ended(moment)
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().expect("the gateway is killed");
        self.child.wait().expect("the gateway has ended");
        assert!(self.printed.ended(PATIENCE), "a killed process holds no pipe");
        self.printed()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(sent.expect("sh runs").success());
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self, limit: Duration) -> (ExitStatus, String) {
        assert!(self.printed.ended(limit), "not ended within {limit:?}: {}", self.printed());
        (self.child.wait().expect("the gateway has ended"), self.printed())
    }

    /// SIGTERM and a clean end.
    pub(crate) fn stop(self) -> String {
        self.terminate();
        let (status, printed) = self.wait(PATIENCE);
        assert!(status.success(), "{status}: {printed}");
        printed
    }
}

fn served_at(printed: &str) -> Option<SocketAddr> {
    // The demo says it with its greeting, of which this is the end; `serve` in its log.
    let ready = ["Stop with Ctrl-C", "the gateway is ready"];
    ready.iter().any(|words| printed.contains(words)).then_some(())?;
    let (_, rest) = printed.split_once("127.0.0.1:")?;
    let port = rest.split(|c: char| !c.is_ascii_digit()).next().filter(|port| port.len() < rest.len())?;
    Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
}

/// The lines of a log in JSON with this message.
pub(crate) fn told(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().filter(|line| line.contains(message));
    let lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Both fail for a process that has been waited for, which is as well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
