//! The real binary: an installation's settings, its commands, and `weir serve` on it.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use super::process::Process;
use super::{Api, Project, free_port, until};

/// A store and the settings under which every process of it runs.
pub struct Installation {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Installation {
    /// SQLite files in a temporary folder.
    pub fn embedded(shards: u16) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data").display().to_string();
        Self { folder, environment: Vec::new() }
            .with("WEIR__STORAGE__DATA_DIR", &data)
            .with("WEIR__STORAGE__SHARDS", &shards.to_string())
    }

    /// Databases, the first of which is the control database too.
    pub fn mysql(servers: &[String], shards: u16) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { folder, environment: Vec::new() }
            .with("WEIR__STORAGE__CONTROL", &servers[0])
            .with("WEIR__STORAGE__SERVERS", &servers.join(","))
            .with("WEIR__STORAGE__SHARDS", &shards.to_string())
    }

    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The databases that carry shards, as sqlx opens them.
    pub fn servers(&self) -> Vec<String> {
        let setting = |name: &str| {
            let found = self.environment.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        match setting("WEIR__STORAGE__SERVERS") {
            Some(servers) => servers.split(',').map(str::to_owned).collect(),
            None => {
                let folder = setting("WEIR__STORAGE__DATA_DIR").expect("an installation has a place");
                vec![format!("sqlite:{folder}/server.db")]
            }
        }
    }

    /// All databases, as sqlx opens them.
    pub fn databases(&self) -> Vec<String> {
        let mut databases = self.servers();
        // On MySQL the first server's database is the control database too.
        if let Some((_, folder)) = self.environment.iter().find(|(key, _)| key == "WEIR__STORAGE__DATA_DIR") {
            databases.push(format!("sqlite:{folder}/control.db"));
        }
        databases
    }

    /// Runs a command to its end; what it printed. Fails the test when the command fails.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "weir {}: {}\n{errors}", arguments.join(" "), output.status);
        String::from_utf8(output.stdout).expect("weir prints UTF-8")
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("the weir binary runs")
    }

    pub fn create_project(&self, name: &str) -> Project {
        let printed = self.run(&["project", "create", name, "--json"]);
        serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("project create --json printed {printed:?}: {error}"))
    }

    pub async fn serve(&self) -> Weir {
        self.serve_with(&[]).await
    }

    /// `weir serve`, ready, with more of an environment.
    pub async fn serve_with(&self, environment: &[(&str, &str)]) -> Weir {
        let mut weir = self.start_with(environment);
        weir.ready().await;
        weir
    }

    /// `weir serve`, perhaps not ready yet.
    pub fn start_with(&self, environment: &[(&str, &str)]) -> Weir {
        let (bind, ops) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        self.start_at(&bind, &ops, environment)
    }

    /// The same at addresses that the test chooses, so that it can be started there again.
    pub fn start_at(&self, bind: &str, ops: &str, environment: &[(&str, &str)]) -> Weir {
        self.start_command(&["serve"], bind, ops, environment)
    }

    /// `weir demo` with few events, not ready yet.
    pub fn start_demo(&self) -> Weir {
        let (bind, ops) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        self.start_command(&["demo", "--events", "100", "--days", "2"], &bind, &ops, &[])
    }

    fn start_command(&self, arguments: &[&str], bind: &str, ops: &str, environment: &[(&str, &str)]) -> Weir {
        let mut command = self.command();
        command.args(arguments).env("WEIR__HTTP__BIND", bind).env("WEIR__HTTP__OPS_BIND", ops);
        command.envs(environment.iter().copied());
        let process = Process::start("weir serve", &mut command, &self.folder().join("weir.log"));
        Weir { process, api: Api::new(&format!("http://{bind}")), ops: format!("http://{ops}") }
    }

    /// In a folder of its own, so that no settings of the repository apply.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WEIR_")) {
            command.env_remove(name);
        }
        command.current_dir(self.folder());
        // No load balancer looks at it, unless the test has one and says how often.
        command.env("WEIR__HTTP__DRAIN_WAIT_SECS", "0");
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }
}

/// One `weir serve`.
pub struct Weir {
    process: Process,
    pub api: Api,
    ops: String,
}

impl Weir {
    pub async fn ready(&mut self) {
        let url = format!("{}/healthz/ready", self.ops);
        let (process, client) = (&mut self.process, self.api.client().clone());
        let start = std::time::Instant::now();
        loop {
            let answer = client.get(&url).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            assert!(process.is_running(), "weir serve ended:\n{}", process.tail());
            assert!(start.elapsed() < Duration::from_secs(60), "weir is not ready:\n{}", process.tail());
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// What it has in memory now.
    pub fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes()
    }

    /// Address and port of metrics and health.
    pub fn ops_address(&self) -> &str {
        self.ops.trim_start_matches("http://")
    }

    /// Waits until it has ended by itself, as it does at a failpoint.
    pub async fn ended(&mut self, limit: Duration) {
        let process = std::cell::RefCell::new(&mut self.process);
        until("weir to end by itself", limit, || async {
            (!process.borrow_mut().is_running()).then_some(())
        })
        .await;
    }

    /// Waits until it has stopped in the middle of something, as it does at a failpoint that says so.
    pub async fn frozen(&self, limit: Duration) {
        until("weir to freeze", limit, || async { self.process.is_frozen().then_some(()) }).await;
    }

    pub fn wake(&self) {
        self.process.wake();
    }

    /// A graceful stop; fails the test when it ends with an error.
    pub fn stop(mut self) {
        self.stop_now();
    }

    /// The same for one that will be started again in its place.
    pub fn stop_now(&mut self) {
        let status = self.process.stop();
        assert!(status.success(), "weir stopped with {status}:\n{}", self.process.tail());
    }

    /// As Prometheus reads them.
    pub async fn metrics(&self) -> String {
        let url = format!("{}/metrics", self.ops);
        let text = self.api.client().get(url).send().await.expect("metrics answer");
        text.text().await.expect("metrics are text")
    }

    /// The sum of all lines of one counter or gauge.
    pub async fn metric(&self, name: &str) -> f64 {
        self.metric_of(name, "").await
    }

    /// The sum of those lines whose labels contain a text.
    pub async fn metric_of(&self, name: &str, label: &str) -> f64 {
        let text = self.metrics().await;
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        let lines = lines.filter(|line| line[name.len()..].contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}
