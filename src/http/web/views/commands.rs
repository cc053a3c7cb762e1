//! The commands that ask what a page asks.

pub struct Commands {
    /// Where weir is.
    pub public_url: String,
    /// The question, kept as it was typed.
    pub json: String,
}

impl Commands {
    /// The same question for a program: `POST /api/v1/tickets`.
    pub fn curl(&self) -> String {
        let body = format!("{{\"question\": {}}}", one_line(&self.json));
        format!(
            "curl {}/api/v1/tickets \\\n  -H 'Authorization: Bearer sk_…' \\\n  \
             -H 'Content-Type: application/json' -H 'Prefer: wait=20' \\\n  -d {}",
            self.public_url,
            quoted(&body)
        )
    }

    /// The key is no argument: other people of a machine see command lines.
    pub fn line(&self) -> String {
        let question = quoted(&one_line(&self.json));
        format!("WEIR_SECRET_KEY=sk_… weir ask --server {} {question}", self.public_url)
    }
}

/// JSON without the line breaks that only people need; as it is when it is not JSON yet.
fn one_line(json: &str) -> String {
    serde_json::from_str::<serde_json::Value>(json)
        .map_or_else(|_| json.to_owned(), |value| value.to_string())
}

/// One argument of a POSIX shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_argument_of_a_shell() {
        for (text, argument) in [
            ("{\"a\": 1}", "'{\"a\": 1}'"),
            ("it's; $(rm) `x` \\ \n", "'it'\\''s; $(rm) `x` \\ \n'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(text), argument);
        }
        assert_eq!(one_line("{\n  \"a\": 1\n}"), "{\"a\":1}");
        assert_eq!(one_line("not {json"), "not {json");
    }
}
