use askama::Template;

use super::{Commands, Frame, Nav, Note, RangeBar, icon};
use crate::http::web::{
    ask::form::{AskForm, BY_EVENT, GRANULARITIES, Kind, MEASURES, OPERATORS, PartForm, takes_property},
    chart, format,
    range::{Params, address},
    sort::Sort,
};

/// Above this many names a menu is a text field with suggestions, which searches.
const MENU_MAX: usize = 300;

pub struct PropertyMenu {
    pub name: String,
    /// `text`, `number`, `text or number`.
    pub types: String,
}

/// What the project has, for the menus: nothing else is offered.
#[derive(Default)]
pub struct Menus {
    pub events: Vec<String>,
    pub properties: Vec<PropertyMenu>,
}

impl Menus {
    fn has_event(&self, name: &str) -> bool {
        self.events.iter().any(|known| known == name)
    }

    pub(super) fn has_property(&self, name: &str) -> bool {
        self.properties.iter().any(|known| known.name == name)
    }

    fn many_events(&self) -> bool {
        self.events.len() > MENU_MAX
    }

    pub(super) fn many_properties(&self) -> bool {
        self.properties.len() > MENU_MAX
    }
}

/// One series of an answer in the table of totals.
pub struct SeriesRow {
    pub label: String,
    /// The value of the breakdown, when there is one.
    pub value: Option<String>,
    pub total: Option<f64>,
    /// Its number among the drawn series; `None` when it is not drawn.
    pub drawn: Option<usize>,
}

/// Every value, one row a bucket.
pub struct ValueTable {
    pub columns: Vec<String>,
    /// The bucket in ISO form, and a value for each column.
    pub rows: Vec<(String, Vec<Option<f64>>)>,
    /// How many buckets the answer has; more than `rows` when it is too much for a page.
    pub rows_total: usize,
}

pub struct AnswerView {
    /// Markup made by `chart`; empty when there is nothing to draw.
    pub chart: String,
    /// What the chart says it shows.
    pub heading: String,
    pub series: Vec<SeriesRow>,
    /// The totals are of one kind that adds up, so bars can compare them.
    pub comparable: bool,
    pub table: Option<ValueTable>,
    pub notes: Vec<Note>,
    /// "Answered in 120 ms".
    pub facts: Vec<String>,
    pub ticket_href: String,
    /// The whole answer as a file.
    pub csv_href: String,
    pub is_funnel: bool,
}

impl AnswerView {
    fn largest(&self) -> f64 {
        self.series.iter().filter_map(|row| row.total).fold(0.0, f64::max)
    }

    fn bar(&self, row: &SeriesRow) -> String {
        chart::share_bar(row.total.unwrap_or(0.0), self.largest())
    }

    /// One label for all rows says nothing beside the values of the breakdown.
    fn has_labels(&self) -> bool {
        !self.has_values() || self.series.windows(2).any(|pair| pair[0].label != pair[1].label)
    }

    fn has_values(&self) -> bool {
        self.series.iter().any(|row| row.value.is_some())
    }
}

/// Where the answer stands.
pub enum Asked {
    /// The question is not complete or not right yet; the sentence says what is missing.
    Nothing(String),
    Waiting {
        /// Markup of the progress bar.
        progress: String,
        text: String,
        ticket_href: String,
    },
    Failed {
        detail: String,
        ticket_href: Option<String>,
        again_href: String,
    },
    Answered(Box<AnswerView>),
}

/// `/p/{id}/ask`.
#[derive(Template)]
#[template(path = "ask.html")]
pub struct AskPage {
    pub frame: Frame,
    pub range: RangeBar,
    pub form: AskForm,
    pub menus: Menus,
    /// The question as JSON, kept as it was typed.
    pub json: String,
    /// JSON was asked, so it is shown.
    pub json_open: bool,
    /// The question has parts that the form cannot show.
    pub json_only: bool,
    /// Where in the form (`s0.f1.value`, `window`; empty for the whole) and what to do.
    pub errors: Vec<(String, String)>,
    /// `line` or `bars`.
    pub view: &'static str,
    pub sort: Sort,
    /// Where weir is, for the commands that ask the same.
    pub public_url: String,
    /// While it waits: the same page, naming the ticket that is already there.
    pub refresh_href: String,
    /// While it waits: where the ticket says that it has changed.
    pub events_href: String,
    pub asked: Asked,
}

impl AskPage {
    fn error(&self, place: impl AsRef<str>) -> Option<&str> {
        let place = place.as_ref();
        self.errors.iter().find(|(at, _)| at == place).map(|(_, detail)| detail.as_str())
    }

    /// Errors that belong to no field of the form.
    fn other_errors(&self) -> Vec<&str> {
        self.errors.iter().filter(|(at, _)| at.is_empty()).map(|(_, detail)| detail.as_str()).collect()
    }

    fn is_waiting(&self) -> bool {
        matches!(self.asked, Asked::Waiting { .. })
    }

    fn is_trends(&self) -> bool {
        self.form.kind == Kind::Trends
    }

    fn link(&self, form: &AskForm, view: &str) -> String {
        let mut params: Params = self.range.range.params();
        if self.json_only {
            params = vec![("q".into(), self.json.clone())];
        } else {
            params.extend(form.params());
        }
        params.push(("view".into(), view.to_owned()));
        address(&self.frame.href("ask"), &params)
    }

    /// The attribute of the chosen option of a menu.
    fn selected(&self, option: impl AsRef<str>, value: impl AsRef<str>) -> &'static str {
        if option.as_ref() == value.as_ref() { " selected" } else { "" }
    }

    /// The same answer in another order.
    fn sort_link(&self, column: impl AsRef<str>, numbers: bool) -> String {
        let sort = self.sort.by(column.as_ref(), numbers);
        let mut link = self.link(&self.form, self.view);
        if let Some((name, value)) = sort.param() {
            link += &format!("&{name}={value}");
        }
        link
    }

    fn commands(&self) -> Commands {
        Commands { public_url: self.public_url.clone(), json: self.json.clone() }
    }

    fn is_view(&self, view: &str) -> bool {
        self.view == view
    }

    fn view_link(&self, view: &str) -> String {
        self.link(&self.form, view)
    }

    /// The same events asked as another kind of question.
    fn kind_link(&self, kind: Kind) -> String {
        let form = AskForm { kind, ..self.form.clone() };
        let mut params = self.range.range.params();
        params.extend(form.params());
        address(&self.frame.href("ask"), &params)
    }

    /// The marks have the colours of the lines, unless these stand for something else.
    fn marks_are_coloured(&self) -> bool {
        self.is_trends() && self.form.by.is_empty()
    }

    fn part_mark(&self, number: impl format::Whole) -> String {
        let number = number.whole();
        if self.is_trends() {
            char::from(b'A' + number.rem_euclid(26) as u8).to_string()
        } else {
            (number + 1).to_string()
        }
    }

    fn part_class(&self, number: impl format::Whole) -> String {
        format!("c{}", number.whole() % chart::COLOURS as i128 + 1)
    }

    fn windows(&self) -> Vec<(String, String)> {
        let mut windows: Vec<(String, String)> = [
            ("30m", "30 minutes"),
            ("1h", "1 hour"),
            ("1d", "1 day"),
            ("7d", "7 days"),
            ("14d", "14 days"),
            ("30d", "30 days"),
            ("90d", "90 days"),
            ("", "any time"),
        ]
        .iter()
        .map(|(value, words)| ((*value).to_owned(), (*words).to_owned()))
        .collect();
        if !windows.iter().any(|(value, _)| *value == self.form.window) {
            windows.push((self.form.window.clone(), self.form.window.clone()));
        }
        windows
    }

    fn bucket_word(&self) -> &'static str {
        match self.form.granularity.as_str() {
            "hour" => "Hour",
            "week" => "Week of",
            "month" => "Month",
            _ => "Day",
        }
    }

    fn needs_property(&self, part: &PartForm) -> bool {
        takes_property(&part.measure)
    }

    /// The measures that a property is chosen for, as the script reads it.
    fn property_measures(&self) -> String {
        let words: Vec<&str> =
            MEASURES.iter().map(|(word, _)| *word).filter(|word| takes_property(word)).collect();
        words.join(" ")
    }
}
