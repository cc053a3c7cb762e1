//! A gateway between a client and weir that fails when it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev, web};

/// What becomes of a POST.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The gateway itself answers 503, as one without a healthy server does: no word for CORS.
    Refused,
    /// weir gets it and commits, but its answer becomes a 503 on the way back.
    AnswerLost,
}

pub struct Gate {
    pub url: String,
    faults: Faults,
    server: dev::ServerHandle,
}

type Faults = Arc<Mutex<VecDeque<Fault>>>;

#[derive(Clone)]
struct Way {
    target: String,
    client: reqwest::Client,
    faults: Faults,
}

impl Gate {
    /// In front of the weir at `target`, on a port of its own.
    pub fn start(target: &str) -> Self {
        let faults = Faults::default();
        let way = Way { target: target.to_owned(), client: reqwest::Client::new(), faults: faults.clone() };
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::new(way.clone()))
                .app_data(web::PayloadConfig::new(16 << 20))
                .default_service(web::to(forward))
        });
        let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a port is free");
        let url = format!("http://{}", server.addrs()[0]);
        let running = server.run();
        let handle = running.handle();
        tokio::spawn(running);
        Self { url, faults, server: handle }
    }

    /// The next POSTs fail like this, one after the other.
    pub fn fail_next(&self, faults: &[Fault]) {
        self.faults.lock().expect("nobody panics with it").extend(faults);
    }

    /// Those that no POST has met yet.
    pub fn faults_left(&self) -> usize {
        self.faults.lock().expect("nobody panics with it").len()
    }

    pub async fn stop(self) {
        self.server.stop(false).await;
    }
}

async fn forward(request: HttpRequest, body: web::Bytes, way: web::Data<Way>) -> HttpResponse {
    let fault = match *request.method() {
        Method::POST => way.faults.lock().expect("nobody panics with it").pop_front(),
        _ => None,
    };
    if fault == Some(Fault::Refused) {
        return HttpResponse::ServiceUnavailable().body("no server is available");
    }
    let url = format!("{}{}", way.target, request.uri());
    let method = request.method().as_str().parse().expect("a method is a method");
    let mut forwarded = way.client.request(method, url).body(body);
    for (name, value) in request.headers() {
        // reqwest says for itself how long the body is. The host stays the gateway's, which is what
        // weir then names to its clients.
        if *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
            forwarded = forwarded.header(name.as_str(), value.as_bytes());
        }
    }
    let Ok(answer) = forwarded.send().await else { return HttpResponse::BadGateway().finish() };
    let status = if fault == Some(Fault::AnswerLost) { 503 } else { answer.status().as_u16() };
    let mut headers = HeaderMap::new();
    for (name, value) in answer.headers() {
        let name = header::HeaderName::from_bytes(name.as_str().as_bytes()).expect("a name is a name");
        if name != header::CONTENT_LENGTH && name != header::TRANSFER_ENCODING && name != header::CONNECTION {
            let value = header::HeaderValue::from_bytes(value.as_bytes()).expect("a value is a value");
            headers.append(name, value);
        }
    }
    let Ok(body) = answer.bytes().await else { return HttpResponse::BadGateway().finish() };
    let status = status.try_into().expect("a status is a status");
    let mut response = HttpResponse::build(status).body(body);
    *response.headers_mut() = headers;
    response
}
