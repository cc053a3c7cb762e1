//! The files of `static/`, embedded in the binary and served under names that carry a hash of
//! their content: `/static/weir.3f9a1c0b.css` may be cached for a year, because a changed file has
//! another name. A page of an older replica may ask for a name this one does not know; it then gets
//! the current file under a short cache rather than a 404.

use std::{collections::HashMap, sync::LazyLock};

use actix_web::{HttpResponse, http::header, web};
use rust_embed::RustEmbed;

use crate::http::ApiError;
use crate::model::hash64;

#[derive(RustEmbed)]
#[folder = "static/"]
struct Files;

struct Asset {
    url: String,
    body: web::Bytes,
    content_type: &'static str,
}

static ASSETS: LazyLock<HashMap<String, Asset>> = LazyLock::new(|| {
    Files::iter()
        .map(|name| {
            let file = Files::get(&name).expect("a listed file is embedded");
            let hash = hash64(&file.data) as u32;
            let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
            let asset = Asset {
                url: format!("/static/{stem}.{hash:08x}.{extension}"),
                content_type: content_type(extension),
                body: web::Bytes::from(file.data.into_owned()),
            };
            (name.to_string(), asset)
        })
        .collect()
});

/// The address of a file of `static/`, for templates. Panics on a name that does not exist, which
/// the test that renders every page would meet first.
pub fn url(name: &str) -> &'static str {
    &ASSETS.get(name).unwrap_or_else(|| panic!("static/{name} does not exist")).url
}

/// `GET /static/{file}`.
pub async fn serve(file: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let asked = format!("/static/{file}");
    let name = plain_name(&file);
    let Some(asset) = ASSETS.get(name.as_str()).or_else(|| ASSETS.get(file.as_str())) else {
        return Err(ApiError::not_found("There is no such file."));
    };
    let cache = if asset.url == asked { "public, max-age=31536000, immutable" } else { "public, max-age=60" };
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, asset.content_type))
        .insert_header((header::CACHE_CONTROL, cache))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(asset.body.clone()))
}

/// `GET /favicon.ico`: browsers ask for it whatever the page says.
pub async fn favicon() -> HttpResponse {
    HttpResponse::MovedPermanently().insert_header((header::LOCATION, url("favicon.svg"))).finish()
}

pub fn routes(config: &mut web::ServiceConfig) {
    config.route("/static/{file}", web::get().to(serve)).route("/favicon.ico", web::get().to(favicon));
}

/// `weir.3f9a1c0b.css` without its hash.
fn plain_name(file: &str) -> String {
    let mut parts: Vec<&str> = file.split('.').collect();
    if parts.len() >= 3 {
        parts.remove(parts.len() - 2);
    }
    parts.join(".")
}

fn content_type(extension: &str) -> &'static str {
    match extension {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{App, test};

    use super::*;

    #[actix_web::test]
    async fn a_hashed_name_is_cached_for_a_year_and_an_old_one_is_not() {
        let app = test::init_service(App::new().configure(routes)).await;
        let cases = [
            (url("weir.css").to_owned(), 200, Some("public, max-age=31536000, immutable")),
            ("/static/weir.00000000.css".to_owned(), 200, Some("public, max-age=60")),
            ("/static/..%2fCargo.toml".to_owned(), 404, None),
            ("/static/nothing.css".to_owned(), 404, None),
        ];
        for (path, status, cache) in cases {
            let request = test::TestRequest::get().uri(&path).to_request();
            let response = test::call_service(&app, request).await;
            assert_eq!(response.status().as_u16(), status, "{path}");
            let found = response.headers().get(header::CACHE_CONTROL).map(|v| v.to_str().unwrap());
            assert_eq!(found, cache, "{path}");
        }
    }

    #[test]
    async fn the_weight_stays_within_the_budget() {
        use std::io::Write;
        let size = |name: &str| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&ASSETS[name].body).unwrap();
            encoder.finish().unwrap().len()
        };
        let scripts: usize = ["theme.js", "weir.js", "menus.js"].into_iter().map(size).sum();
        for (name, size, limit) in [("styles", size("weir.css"), 25_000), ("scripts", scripts, 30_000)] {
            assert!(size < limit, "the {name} are {size} bytes compressed, the limit is {limit}");
        }
    }
}
