//! HAProxy as it is shipped: `config/haproxy.cfg`, with the replicas of a test behind it.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::Process;
use super::{free_port, repository, until};

pub struct HaProxy {
    _folder: TempDir,
    process: Process,
    url: String,
    stats: String,
}

impl HaProxy {
    /// `replicas` as host:port, up to eight of them, running or not.
    pub fn start(replicas: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (bind, stats) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(repository().join("config/haproxy.cfg"));
        command.env("WEIR_BIND", &bind).env("WEIR_STATS", &stats);
        for (n, replica) in (1..=8).zip(replicas) {
            command.env(format!("WEIR_{n}"), replica);
        }
        let process = Process::start("haproxy", &mut command, &folder.path().join("haproxy.log"));
        Self { _folder: folder, process, url: format!("http://{bind}"), stats: format!("http://{stats}") }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Until it sends requests to so many replicas.
    pub async fn has_up(&mut self, count: usize) {
        let url = format!("{}/;csv", self.stats);
        let process = std::cell::RefCell::new(&mut self.process);
        until(&format!("{count} replicas behind HAProxy"), Duration::from_secs(30), || async {
            assert!(process.borrow_mut().is_running(), "haproxy ended:\n{}", process.borrow().tail());
            let text = reqwest::get(&url).await.ok()?.text().await.ok()?;
            let up = text.lines().filter(|line| line.starts_with("replicas,weir-") && line.contains(",UP,"));
            (up.count() == count).then_some(())
        })
        .await;
    }
}
