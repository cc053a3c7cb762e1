//! `weir healthcheck`: asks the `weir serve` of the same configuration whether it is well, and ends
//! with 0 or 1. For containers, whose images hold no HTTP client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Context;
use super::output::say;

/// Longer than readiness itself takes when a database does not answer.
const TIME_MAX: Duration = Duration::from_secs(5);
/// A health answer has a few hundred bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

#[derive(Args, Debug)]
pub struct HealthcheckArgs {
    /// Ask only whether the process runs, not whether it wants requests.
    #[arg(long)]
    live: bool,
}

pub async fn run(context: &Context, args: HealthcheckArgs) -> anyhow::Result<()> {
    let path = if args.live { "/healthz/live" } else { "/healthz/ready" };
    let address = reachable(context.config.http.ops_bind.parse()?);
    let asked = tokio::time::timeout(TIME_MAX, ask(address, path)).await;
    let answer = asked.with_context(|| format!("http://{address}{path} gave no answer in {TIME_MAX:?}"))?;
    let answer = answer.with_context(|| format!("http://{address}{path} cannot be asked"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or("no status");
    say!("{}", body.trim_end());
    anyhow::ensure!(status == "200", "http://{address}{path} answered {status}");
    Ok(())
}

/// What listens on every address is asked on the loopback one.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}

/// One request of HTTP/1.0, whose answer ends with the connection: all that is needed here, and no
/// HTTP client in the binary for it.
async fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        for (bind, asked) in [
            ("0.0.0.0:8081", "127.0.0.1:8081"),
            ("[::]:8081", "[::1]:8081"),
            ("10.0.0.7:1", "10.0.0.7:1"),
            ("127.0.0.1:8081", "127.0.0.1:8081"),
        ] {
            assert_eq!(reachable(bind.parse().unwrap()), asked.parse().unwrap(), "{bind}");
        }
    }
}
