//! What the tests stand on: real processes on free loopback ports, in folders that go away.
//!
//! [`Installation`] is a store and its settings; [`Weir`] is one `weir serve` on it, which can be
//! killed and started again on the same data. [`MariaDb`] and [`Redis`] are servers of the test's own,
//! [`Gate`] a gateway that fails when it is told to, [`run_script`] drives weir with other people's
//! code. Nothing here waits for a length of time: [`until`] polls for a condition and names it when it
//! fails.

mod api;
mod browser;
mod catalogue;
mod gate;
mod haproxy;
mod mariadb;
mod packages;
mod process;
mod redis;
mod traces;
mod weir;

use std::future::Future;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use api::{Api, Project, Sent};
pub use browser::Browser;
pub use catalogue::Catalogue;
pub use gate::{Fault, Gate};
pub use haproxy::HaProxy;
pub use mariadb::MariaDb;
pub use packages::run_script;
pub use process::Process;
pub use redis::Redis;
pub use traces::traces;
pub use weir::{Installation, Weir};

/// Asks `probe` again and again until it has something.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < limit, "after {limit:?} still waiting for {what}");
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// A port that is free now. Whoever binds it next could still be somebody else, so ports come from
/// below the range that outgoing connections use, and from another place for each process.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..2_000 {
        let step = TRIED.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (start.wrapping_add(step) % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 10000 and 30000");
}

/// The folder of real data, when this machine has it.
pub fn real_data() -> Option<PathBuf> {
    let folder = std::env::var_os("WEIR_TEST_DATA").map(PathBuf::from);
    let folder = folder.or_else(|| Some(repository().parent()?.join("shared/data")));
    folder.filter(|folder| folder.join("oracle").is_dir())
}

pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
