//! A MariaDB server of the test's own, which may be killed and started again on the same data.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{Connection, Executor, MySqlConnection};
use tempfile::TempDir;

use super::process::Process;
use super::{free_port, repository, until};

pub struct MariaDb {
    defaults: PathBuf,
    folder: TempDir,
    port: u16,
    process: Option<Process>,
}

impl MariaDb {
    /// Small and plain, with settings that must not matter.
    pub async fn start() -> Self {
        Self::start_with("config/test/mariadb.cnf").await
    }

    /// With the settings that are shipped.
    pub async fn start_as_shipped() -> Self {
        Self::start_with("config/mariadb.cnf").await
    }

    async fn start_with(defaults: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let defaults = repository().join(defaults);
        let mut install = command_in("mariadb-install-db", folder.path());
        install.arg(defaults_file(&defaults)).arg(data_dir(folder.path()));
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]).args(as_user());
        let installed = install.output().expect("mariadb-install-db runs; scripts/test installs it");
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        let mut this = Self { defaults, folder, port: free_port(), process: None };
        this.restart().await;
        this
    }

    /// Starts it on the data it had. Precondition: it does not run.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "MariaDB runs already");
        let folder = self.folder.path();
        let users = repository().join("config/test/mariadb-users.sql");
        let mut command = command_in("mariadbd", folder);
        command.arg(defaults_file(&self.defaults)).arg(data_dir(folder)).args(as_user());
        command.arg("--bind-address=127.0.0.1");
        command.arg(format!("--port={}", self.port));
        command.arg(format!("--socket={}", folder.join("socket").display()));
        command.arg(format!("--pid-file={}", folder.join("pid").display()));
        command.arg(format!("--init-file={}", users.display()));
        self.process = Some(Process::start("mariadbd", &mut command, &folder.join("log")));
        let url = self.server_url();
        until("MariaDB to answer", Duration::from_secs(90), || async {
            MySqlConnection::connect(&url).await.ok()
        })
        .await;
    }

    pub fn kill9(&mut self) {
        self.process.take().expect("MariaDB runs").kill9();
    }

    /// It keeps its connections and answers nothing, as behind a network that drops every packet.
    pub fn freeze(&self) {
        self.process.as_ref().expect("MariaDB runs").freeze();
    }

    pub fn wake(&self) {
        self.process.as_ref().expect("MariaDB runs").wake();
    }

    /// `mysql://user:password@host:port`, without a database.
    pub fn server_url(&self) -> String {
        format!("mysql://weir:weir@127.0.0.1:{}", self.port)
    }

    /// A fresh database; its URL.
    pub async fn create_database(&self) -> String {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        self.create_database_named(&name).await;
        format!("{}/{name}", self.server_url())
    }

    /// Letters, digits and underscores.
    pub async fn create_database_named(&self, name: &str) {
        let mut connection = MySqlConnection::connect(&self.server_url()).await.expect("the server answers");
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        connection.execute(create).await.expect("a database can be created");
    }

    /// How MariaDB's own programs reach it.
    pub fn client_options(&self) -> String {
        format!("--host=127.0.0.1 --port={} --user=weir --password=weir", self.port)
    }
}

/// With temporary files of its own: a server that starts deletes those of others that it finds in a
/// folder they share, and gives up when two do so at once.
fn command_in(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("TMPDIR", folder);
    command
}

fn defaults_file(file: &Path) -> String {
    format!("--defaults-file={}", file.display())
}

fn data_dir(folder: &Path) -> String {
    format!("--datadir={}", folder.join("data").display())
}

/// The server refuses to run as root unless it is told to.
fn as_user() -> Option<&'static str> {
    let own = std::fs::metadata("/proc/self").expect("this process has an entry in /proc");
    (own.uid() == 0).then_some("--user=root")
}
