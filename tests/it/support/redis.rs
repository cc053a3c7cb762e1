//! A Redis of the test's own, with the settings that are shipped, which may be killed and started
//! again.

use std::process::Command;
use std::time::Duration;

use deadpool_redis::redis::{Client, Connection, RedisResult, cmd, from_redis_value};
use tempfile::TempDir;

use super::process::Process;
use super::{free_port, repository, until};

pub struct Redis {
    folder: TempDir,
    port: u16,
    process: Option<Process>,
}

impl Redis {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut this = Self { folder, port: free_port(), process: None };
        this.restart().await;
        this
    }

    /// Starts it, empty, at the address it had. Precondition: it does not run.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "Redis runs already");
        let mut command = Command::new("redis-server");
        command.arg(repository().join("config/redis.conf"));
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--dir"]);
        command.arg(self.folder.path());
        self.process = Some(Process::start("redis-server", &mut command, &self.folder.path().join("log")));
        until("Redis to answer", Duration::from_secs(20), || async { self.ask::<String>(&["PING"]).ok() })
            .await;
    }

    pub fn kill9(&mut self) {
        self.process.take().expect("Redis runs").kill9();
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Until this many processes of an installation listen for wake-ups.
    pub async fn listeners(&self, count: usize) {
        until("every replica to listen for wake-ups", Duration::from_secs(60), || async {
            let channels: Vec<String> = self.ask(&["PUBSUB", "CHANNELS", "weir:*:wakeups"]).ok()?;
            let (_, listening): (String, usize) = self.ask(&["PUBSUB", "NUMSUB", channels.first()?]).ok()?;
            (listening == count).then_some(())
        })
        .await;
    }

    /// Everything that it holds.
    pub fn all_values(&self) -> Vec<Vec<u8>> {
        let keys: Vec<String> = self.ask(&["KEYS", "*"]).expect("Redis answers");
        let values =
            keys.iter().map(|key| self.ask::<Option<Vec<u8>>>(&["GET", key]).expect("Redis answers"));
        values.flatten().chain(keys.iter().map(|key| key.clone().into_bytes())).collect()
    }

    /// Hears the wake-ups from now on.
    pub fn overhear(&self) -> Overheard {
        let client = Client::open(self.url()).expect("the address is one");
        let mut connection = client.get_connection().expect("Redis answers");
        connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        let mut subscribe = cmd("PSUBSCRIBE");
        subscribe.arg("weir:*:wakeups").exec(&mut connection).expect("Redis takes a subscription");
        Overheard(connection)
    }

    fn ask<T: deadpool_redis::redis::FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut connection = Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(2))?;
        let mut command = cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        command.query(&mut connection)
    }
}

pub struct Overheard(Connection);

impl Overheard {
    /// Returns when this message went over the wire; blocks the thread.
    pub fn hears(&mut self, wanted: &str) {
        loop {
            let message = self.0.recv_response();
            let message = message.unwrap_or_else(|error| panic!("nobody said {wanted:?}: {error}"));
            // pmessage, pattern, channel, payload.
            let words: Vec<String> = from_redis_value(message).expect("a message is a list of text");
            if words.last().is_some_and(|payload| payload == wanted) {
                return;
            }
        }
    }
}
