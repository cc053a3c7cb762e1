//! Programs of other people that drive weir: scripts of `tests/sdk` and `tests/browser` in Node and
//! Python, with the packages that `scripts/packages` installs.

use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Command;

use super::repository;

/// Far more than any script takes, and less than the runner gives a test.
const SCRIPT_TIME_MAX: Duration = Duration::from_secs(150);

/// Runs a script of the repository, `tests/sdk/NAME.cjs` or `.py`, to its end. What it printed; fails
/// the test when it fails.
pub async fn run_script(script: &str, environment: &[(&str, &str)]) -> String {
    let packages = packages().await;
    let program = if script.ends_with(".py") { "python3" } else { "node" };
    let mut command = Command::new(program);
    command.arg(repository().join(script)).envs(environment.iter().copied()).kill_on_drop(true);
    command.env("NODE_PATH", packages.join("node_modules")).env("PYTHONPATH", packages.join("python"));
    let ended = tokio::time::timeout(SCRIPT_TIME_MAX, command.output()).await;
    let output = ended.unwrap_or_else(|_| panic!("{script} does not end")).expect("the program runs");
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {}\n{printed}\n{errors}", output.status);
    printed.into_owned()
}

/// The folder that `scripts/packages` prints, installed if need be.
async fn packages() -> PathBuf {
    if let Some(folder) = std::env::var_os("WEIR_TEST_PACKAGES") {
        return PathBuf::from(folder);
    }
    let output = Command::new(repository().join("scripts/packages")).output().await;
    let output = output.expect("scripts/packages runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).expect("a path is text").trim())
}
