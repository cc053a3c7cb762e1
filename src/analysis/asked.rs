//! What the body of a ticket of the kind `question` holds: the question, and whether to wait for
//! everything committed until now.

use serde_json::{Value, json};

use super::{ProjectSettings, Question};
use crate::tickets::InvalidBody;

pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) fresh: bool,
}

impl Asked {
    /// `fresh` is about the data, not about the question: it is taken out before the rest is parsed.
    pub(super) fn parse(body: &Value, settings: &ProjectSettings) -> Result<Self, InvalidBody> {
        let mut question = body.clone();
        let fresh = question.as_object_mut().and_then(|fields| fields.remove("fresh"));
        let mut errors = Vec::new();
        if fresh.as_ref().is_some_and(|fresh| !fresh.is_boolean()) {
            errors.push(("/fresh".to_owned(), "fresh is true or false".to_owned()));
        }
        match Question::parse(&question, settings) {
            Ok(question) if errors.is_empty() => {
                Ok(Self { question, fresh: fresh == Some(Value::Bool(true)) })
            }
            parsed => {
                let problems = parsed.err().unwrap_or_default();
                errors.extend(problems.into_iter().map(|error| (pointer(&error.field), error.detail)));
                let detail = match errors.as_slice() {
                    [(_, only)] => only.clone(),
                    several => format!("the question has {} problems", several.len()),
                };
                Err(InvalidBody { detail, errors })
            }
        }
    }

    pub(super) fn read(body: &[u8], settings: &ProjectSettings) -> Result<Self, InvalidBody> {
        let json: Value = serde_json::from_slice(body)
            .map_err(|error| InvalidBody { detail: error.to_string(), errors: vec![] })?;
        Self::parse(&json, settings)
    }

    pub(super) fn to_body(&self) -> Vec<u8> {
        let mut json = self.question.canonical();
        if let (true, Value::Object(fields)) = (self.fresh, &mut json) {
            fields.insert("fresh".to_owned(), json!(true));
        }
        json.to_string().into_bytes()
    }
}

/// `series[0].filters` as the JSON pointer `/series/0/filters`.
fn pointer(field: &str) -> String {
    if field.is_empty() {
        return String::new();
    }
    format!("/{}", field.replace('[', ".").replace(']', "").replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_json_pointers() {
        assert_eq!(pointer("series[0].filters[1].value"), "/series/0/filters/1/value");
        assert_eq!(pointer("from"), "/from");
        assert_eq!(pointer(""), "");
    }

    #[test]
    fn fresh_is_not_part_of_the_question_but_of_the_body() {
        let settings = ProjectSettings::new("UTC", 0);
        let body = json!({"kind": "trends", "from": "2020-01-01", "to": "2020-01-02",
            "series": [{"measure": "count"}], "fresh": true});
        let asked = Asked::parse(&body, &settings).unwrap();
        assert!(asked.fresh);
        let again = Asked::read(&asked.to_body(), &settings).unwrap();
        // The body has instants where the question had dates.
        assert_eq!((again.fresh, again.question.canonical()), (true, asked.question.canonical()));
        let wrong = json!({"kind": "trends", "fresh": 1});
        let Err(invalid) = Asked::parse(&wrong, &settings) else { panic!("it was accepted") };
        assert!(invalid.errors.len() >= 2, "{invalid:?}");
    }
}
