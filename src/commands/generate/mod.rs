//! Believable events of a web shop and its mobile app, for the demo, for trying things at will and
//! for measurements.
//!
//! [`GeneratedEvents`] is an iterator over events in time order: visits of persons who live in
//! countries, come from sources, look at products, sign up, and buy, or more often do not. It is
//! seeded: the same [`Recipe`] gives the same events. `weir generate` prints them as NDJSON in the
//! shape that `weir import` reads; `weir demo` sends them through collection.

mod dice;
mod event;
mod person;
mod rhythm;
mod session;
mod stream;
#[cfg(test)]
mod tests;
mod world;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;

pub use event::GeneratedEvent;
pub use stream::{GeneratedEvents, Recipe};

use crate::model::{Clock, DAY_MS, Millis};

/// 1971-01-01, before which collection takes no event.
const EARLIEST: Millis = 31_536_000_000;

/// What `weir generate` and `weir demo` let their caller choose.
#[derive(clap::Args, Clone, Debug)]
pub struct RecipeArgs {
    /// How many events
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub events: u64,
    /// How many days, the last of which is that of --until
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    pub days: u32,
    /// About how many persons [default: one for every 24 events]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub persons: Option<u32>,
    /// The last day (2026-01-31) or the moment at which events end (2026-01-31T12:00:00Z);
    /// a day that is not over yet ends now [default: now]
    #[arg(long)]
    pub until: Option<String>,
    /// The same seed gives the same events
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl RecipeArgs {
    pub fn recipe(&self, clock: &dyn Clock) -> anyhow::Result<Recipe> {
        let now = clock.now_ms();
        let until = match &self.until {
            Some(text) => parse_until(text)?.min(now),
            None => now,
        };
        let persons = self.persons.unwrap_or((self.events / 24).clamp(1, 1_000_000_000) as u32);
        let recipe = Recipe { seed: self.seed, events: self.events, persons, days: self.days, until };
        anyhow::ensure!(
            recipe.from() >= EARLIEST,
            "--until {} with --days {} begins before 1971, and no event from then is taken",
            self.until.as_deref().unwrap_or("now"),
            self.days
        );
        Ok(recipe)
    }
}

/// The end of a day, or a moment.
fn parse_until(text: &str) -> anyhow::Result<Millis> {
    if let Ok(day) = text.parse::<jiff::civil::Date>() {
        // The calendar's last days have no instant in every zone; they are not over in any case.
        let start = day.to_zoned(jiff::tz::TimeZone::UTC);
        return Ok(start.map_or(Millis::MAX, |start| start.timestamp().as_millisecond() + DAY_MS));
    }
    let moment: jiff::Timestamp = text.parse().with_context(|| {
        format!("--until {text:?} is neither a day (2026-01-31) nor a moment (2026-01-31T12:00:00Z)")
    })?;
    Ok(moment.as_millisecond())
}

#[derive(clap::Args, Clone, Debug)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Where to write; standard output when left out
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// Writes generated events as NDJSON.
pub fn run(args: &GenerateArgs, clock: &dyn Clock) -> anyhow::Result<()> {
    let recipe = args.recipe.recipe(clock)?;
    match &args.out {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            write_events(recipe, BufWriter::with_capacity(1 << 20, file)).context("cannot write the events")
        }
        None => match write_events(recipe, BufWriter::with_capacity(1 << 16, io::stdout().lock())) {
            // The reader had enough (`| head`).
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done.context("cannot write the events"),
        },
    }
}

fn write_events(recipe: Recipe, mut out: impl Write) -> io::Result<()> {
    for event in GeneratedEvents::new(recipe) {
        serde_json::to_writer(&mut out, &event)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}
