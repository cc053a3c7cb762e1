//! Who visits: everything about a person that follows from its number, and the little that changes.

use super::dice::{fixed, fixed_unit, pick};
use super::world::{COUNTRIES, Country, SOURCES, Source};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Platform {
    WebDesktop,
    WebPhone,
    Ios,
    Android,
}

impl Platform {
    pub(super) fn is_app(self) -> bool {
        matches!(self, Self::Ios | Self::Android)
    }
}

const PLATFORMS: [(Platform, f64); 4] = [
    (Platform::WebDesktop, 38.0),
    (Platform::WebPhone, 27.0),
    (Platform::Android, 19.0),
    (Platform::Ios, 16.0),
];

const DESKTOPS: [((&str, &str), f64); 5] = [
    (("Windows", "Chrome"), 46.0),
    (("macOS", "Safari"), 19.0),
    (("macOS", "Chrome"), 14.0),
    (("Windows", "Edge"), 12.0),
    (("Linux", "Firefox"), 9.0),
];

const PHONES: [((&str, &str), f64); 3] =
    [(("Android", "Chrome"), 52.0), (("iOS", "Safari"), 42.0), (("Android", "Firefox"), 6.0)];

/// What follows from `(seed, number)` alone: nothing of it is stored.
pub(super) struct Person {
    pub(super) number: u32,
    pub(super) country: &'static Country,
    pub(super) platform: Platform,
    pub(super) os: &'static str,
    pub(super) browser: &'static str,
    /// The source that first brought this person.
    pub(super) source: &'static Source,
    /// How willingly the person buys, around 1.
    pub(super) intent: f64,
    /// How often the person comes back, between 0 and 1: most rarely, a few all the time.
    pub(super) loyalty: f64,
}

impl Person {
    pub(super) fn new(seed: u64, number: u32) -> Self {
        let unit = |topic| fixed_unit(seed, topic, u64::from(number));
        let platform = *pick(unit("platform"), &PLATFORMS);
        let (os, browser) = match platform {
            Platform::WebDesktop => *pick(unit("browser"), &DESKTOPS),
            Platform::WebPhone => *pick(unit("browser"), &PHONES),
            Platform::Ios => ("iOS", "app"),
            Platform::Android => ("Android", "app"),
        };
        Self {
            number,
            country: pick(unit("country"), &COUNTRIES),
            platform,
            os,
            browser,
            source: pick(unit("source"), &SOURCES),
            intent: 0.4 + 1.2 * unit("intent"),
            loyalty: unit("loyalty").powi(3),
        }
    }

    pub(super) fn user_id(&self) -> String {
        format!("u{}", 100_000 + self.number)
    }

    /// What the web page's cookie or the app's installation is called before anybody logs in.
    pub(super) fn anonymous_id(&self, seed: u64) -> String {
        let number = u64::from(self.number);
        let bytes = (u128::from(fixed(seed, "anonymous", number)) << 64)
            | u128::from(fixed(seed, "anonymous2", number));
        uuid::Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid().to_string()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    Free,
    Plus,
    Pro,
}

impl Plan {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Plus => "plus",
            Self::Pro => "pro",
        }
    }

    pub(super) fn next(self) -> Option<Self> {
        match self {
            Self::Free => Some(Self::Plus),
            Self::Plus => Some(Self::Pro),
            Self::Pro => None,
        }
    }
}

/// What changes about a person: one byte for each person who has come so far.
#[derive(Clone, Copy)]
pub(super) struct Account {
    /// `None` until the person signs up.
    pub(super) plan: Option<Plan>,
}
