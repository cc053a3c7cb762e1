//! The parameters of an address, and the fields of a form.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use serde::de::DeserializeOwned;

use crate::http::{ApiError, FieldError};

/// Of a value that cannot be read, this much is shown.
const SHOWN_CHARS_MAX: usize = 100;

/// The query, whose errors name the parameter and its value.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Params<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(parse(request.query_string(), "parameter").map(Self))
    }
}

/// `name=value&…`; `what` is the word for one of them.
pub(super) fn parse<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, ApiError> {
    let whole = match of(text) {
        Ok(parsed) => return Ok(parsed),
        Err(error) => error,
    };
    // Pairs are read in order, and what is missing is found at the end: the first pair that makes
    // another error than that is the one.
    let ends = text.match_indices('&').map(|(end, _)| end).chain([text.len()]);
    for end in ends {
        let Err(error) = of::<T>(&text[..end]) else { continue };
        if error.starts_with("missing field") {
            continue;
        }
        let start = text[..end].rfind('&').map_or(0, |start| start + 1);
        if let Some((name, value)) = pair(&text[start..end]) {
            let value: String = value.chars().take(SHOWN_CHARS_MAX).collect();
            let detail = format!("It is {value:?}: {}.", in_words(&error));
            let problem = format!("The {what} {name} cannot be read.");
            let errors = vec![FieldError { pointer: name, detail }];
            return Err(ApiError::malformed(problem).with_errors(errors));
        }
    }
    Err(ApiError::malformed(format!("A {what} cannot be read: {whole}.")))
}

fn of<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    use actix_web::error::QueryPayloadError;
    web::Query::<T>::from_query(text).map(web::Query::into_inner).map_err(|error| match error {
        QueryPayloadError::Deserialize(error) => error.to_string(),
        other => other.to_string(),
    })
}

fn pair(text: &str) -> Option<(String, String)> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(text).ok()?;
    pairs.into_inner().into_iter().next()
}

fn in_words(error: &str) -> &str {
    match error {
        "invalid digit found in string" | "cannot parse integer from empty string" => "use a whole number",
        "number too large to fit in target type" => "the number is too large",
        error if error.starts_with("duplicate field") => "it is there twice",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Write,
        Secret,
    }

    #[derive(Deserialize, Debug)]
    struct Asked {
        label: String,
        kind: Option<Kind>,
        limit: Option<u8>,
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_value() {
        for (query, name, detail) in [
            ("limit=abc&label=x", "limit", "It is \"abc\": use a whole number."),
            ("label=x&limit=-1", "limit", "It is \"-1\": use a whole number."),
            ("label=x&limit=", "limit", "It is \"\": use a whole number."),
            ("label=x&limit=300&kind=write", "limit", "It is \"300\": the number is too large."),
            ("label=x&limit=1&limit=2", "limit", "It is \"2\": it is there twice."),
            ("label=a%26b&limit=%32x", "limit", "It is \"2x\": use a whole number."),
        ] {
            let error = parse::<Asked>(query, "parameter").unwrap_err();
            let problem = serde_json::to_value(error.problem("")).unwrap();
            let expected = serde_json::json!([{"pointer": name, "detail": detail}]);
            assert_eq!(problem["errors"], expected, "{query}: {problem}");
            assert_eq!(problem["detail"], format!("The parameter {name} cannot be read."));
        }
        let error = parse::<Asked>("kind=admin&label=x", "field").unwrap_err();
        let problem = serde_json::to_value(error.problem("")).unwrap();
        assert_eq!(problem["errors"][0]["pointer"], "kind");
        let detail = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.starts_with("It is \"admin\": unknown variant"), "{detail}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = parse::<Asked>("limit=1", "field").unwrap_err();
        assert_eq!(error.detail(), "A field cannot be read: missing field `label`.");
    }

    #[test]
    fn what_fits_is_read() {
        let asked: Asked = parse("label=a+b&kind=secret&limit=255&other=1", "parameter").unwrap();
        assert_eq!((asked.label.as_str(), asked.limit), ("a b", Some(255)));
        assert!(matches!(asked.kind, Some(Kind::Secret)));
    }
}
