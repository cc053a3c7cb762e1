//! `GET /weir.js`: what a web page loads to send events, from whatever site it is.
//!
//! The address is one that people write into their pages, so it cannot carry a hash: browsers keep it
//! for a day and then ask with its tag whether it changed. It is written for reading in
//! `static/snippet.js` and served without comments and indentation.

use std::sync::LazyLock;

use actix_web::http::header::{self, HeaderName};
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::model::hash64;

const SOURCE: &str = include_str!("../../static/snippet.js");

const CACHE: &str = "public, max-age=86400, stale-while-revalidate=604800";

struct Snippet {
    body: Bytes,
    etag: String,
}

static SNIPPET: LazyLock<Snippet> = LazyLock::new(|| {
    let body = stripped(SOURCE);
    let etag = format!("W/\"{:016x}\"", hash64(body.as_bytes()));
    Snippet { body: body.into(), etag }
});

pub fn routes(config: &mut ServiceConfig) {
    config.route("/weir.js", web::get().to(serve));
}

async fn serve(request: HttpRequest) -> HttpResponse {
    let asked = request.headers().get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let is_known = asked.is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == SNIPPET.etag));
    let mut answer = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer
        .insert_header((header::CONTENT_TYPE, "text/javascript; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, CACHE))
        .insert_header((header::ETAG, SNIPPET.etag.as_str()))
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        // Sites that isolate themselves load only what says this.
        .insert_header((HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"));
    if is_known { answer.finish() } else { answer.body(SNIPPET.body.clone()) }
}

/// Without lines that are comments, empty lines and indentation.
fn stripped(source: &str) -> String {
    let lines = source.lines().map(str::trim);
    let kept: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("//")).collect();
    kept.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use actix_web::dev::ServiceResponse;
    use actix_web::{App, test};

    use super::*;

    #[test]
    async fn it_weighs_less_than_three_kilobytes() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(&SNIPPET.body).unwrap();
        let size = encoder.finish().unwrap().len();
        assert!(size < 3_000, "{size} bytes");
        assert!(SNIPPET.body.starts_with(b"(() => {\nconst script = document.currentScript;\n"));
    }

    #[actix_web::test]
    async fn it_is_kept_for_a_day_and_asked_for_again_by_its_tag() {
        let app = test::init_service(App::new().configure(routes)).await;
        let get = |tag: Option<String>| {
            let mut request = test::TestRequest::get().uri("/weir.js");
            if let Some(tag) = tag {
                request = request.insert_header((header::IF_NONE_MATCH, tag));
            }
            test::call_service(&app, request.to_request())
        };
        let header = |answer: &ServiceResponse, name: &str| {
            answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let first = get(None).await;
        assert_eq!(first.status(), 200);
        assert_eq!(header(&first, "cache-control"), CACHE);
        assert_eq!(header(&first, "content-type"), "text/javascript; charset=utf-8");
        assert_eq!(header(&first, "access-control-allow-origin"), "*");
        let tag = header(&first, "etag");
        assert_eq!(test::read_body(first).await, SNIPPET.body);
        for (asked, status) in
            [(tag.clone(), 304), (format!("\"x\", {tag}"), 304), ("W/\"0000000000000000\"".into(), 200)]
        {
            let answer = get(Some(asked.clone())).await;
            assert_eq!(answer.status(), status, "{asked}");
            assert_eq!(header(&answer, "etag"), tag);
        }
    }
}
