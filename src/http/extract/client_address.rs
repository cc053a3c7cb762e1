//! Who sent a request.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv4Addr};

use actix_web::dev::Payload;
use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpRequest};

use super::state_of;

/// The peer's address, or what the last trusted proxy says it is. Never logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientAddress(pub IpAddr);

impl FromRequest for ClientAddress {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let state = state_of(request);
        // Only requests made by tests come from nowhere.
        let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
        let is_trusted = |address: IpAddr| {
            let trusted = &state.config.http.trusted_proxies;
            trusted.iter().any(|text| text.parse() == Ok(address))
        };
        ready(Ok(Self(find_address(peer.to_canonical(), request.headers(), is_trusted))))
    }
}

/// Walks from the peer outwards for as long as whoever speaks is trusted: every further entry of
/// X-Forwarded-For is something that anybody may have written.
fn find_address(peer: IpAddr, headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut address = peer;
    let values: Vec<&str> =
        headers.get_all("x-forwarded-for").filter_map(|value| value.to_str().ok()).collect();
    let mut hops = values.iter().flat_map(|value| value.split(',')).collect::<Vec<_>>().into_iter().rev();
    while is_trusted(address) {
        match hops.next().and_then(parse_hop) {
            Some(hop) => address = hop,
            None => break,
        }
    }
    address
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1` or `[2001:db8::1]:4711`.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text
        .parse()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        for (name, peer, forwarded, found) in [
            ("nobody is trusted", "192.0.2.9", &["203.0.113.1"][..], "192.0.2.9"),
            ("one proxy", "10.0.0.1", &["203.0.113.1"], "203.0.113.1"),
            ("the client wrote the first entry", "10.0.0.1", &["127.0.0.1, 203.0.113.1"], "203.0.113.1"),
            ("two proxies", "10.0.0.1", &["203.0.113.1, 10.0.0.2"], "203.0.113.1"),
            ("two headers", "10.0.0.1", &["1.1.1.1", "203.0.113.1"], "203.0.113.1"),
            ("no header", "10.0.0.1", &[], "10.0.0.1"),
            ("rubbish", "10.0.0.1", &["203.0.113.1, what"], "10.0.0.1"),
            ("a port", "10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("a mapped address", "::ffff:10.0.0.1", &["::ffff:203.0.113.1"], "203.0.113.1"),
        ] {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                let name = HeaderName::from_static("x-forwarded-for");
                headers.append(name, HeaderValue::from_static(value));
            }
            let trusted: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
            let peer = peer.parse::<IpAddr>().unwrap().to_canonical();
            let address = find_address(peer, &headers, |address| trusted.contains(&address));
            assert_eq!(address, found.parse::<IpAddr>().unwrap(), "{name}");
        }
    }
}
