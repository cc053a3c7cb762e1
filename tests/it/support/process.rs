//! A child process whose output goes to a file and that never outlives its test.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let out = append(log);
        let errors = out.try_clone().expect("a file handle can be copied");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { child, name: name.to_owned(), log: log.to_owned() }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// What `kill -9` does; returns when it is gone.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("a killed child ends");
    }

    /// SIGTERM, and the wait for the end.
    pub fn stop(&mut self) -> ExitStatus {
        let sent = self.signal("-TERM");
        assert!(sent || !self.is_running(), "{} cannot be told to stop", self.name);
        self.wait(Duration::from_secs(60))
    }

    /// Whether SIGSTOP has stopped it.
    pub fn is_frozen(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The state is the first field behind the name, which may hold anything.
        stat.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with('T'))
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn freeze(&self) {
        assert!(self.signal("-STOP"), "{} cannot be stopped", self.name);
    }

    /// SIGCONT.
    pub fn wake(&self) {
        assert!(self.signal("-CONT"), "{} cannot be woken", self.name);
    }

    fn signal(&self, signal: &str) -> bool {
        let id = self.child.id().to_string();
        Command::new("kill").args([signal, &id]).status().expect("kill(1) runs").success()
    }

    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the process has an entry in /proc");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib =
            line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a running process has resident memory") * 1_024
    }

    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return status;
            }
            assert!(start.elapsed() < limit, "{} still runs after {limit:?}:\n{}", self.name, self.tail());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The last lines of what it said.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- the last words of {}:\n{}\n---", self.name, self.tail());
        }
    }
}

fn append(log: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(log).expect("a log file can be opened")
}
