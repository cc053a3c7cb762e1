//! What does not change while the generator runs: countries, sources, the shop's shelves.

use super::dice::{fixed, fixed_unit};

pub(super) struct Country {
    pub(super) code: &'static str,
    pub(super) currency: &'static str,
    /// Fixed: the demo needs evenings that look like evenings, not daylight saving.
    pub(super) utc_offset_hours: i64,
}

const fn country(code: &'static str, currency: &'static str, utc_offset_hours: i64) -> Country {
    Country { code, currency, utc_offset_hours }
}

pub(super) const COUNTRIES: [(Country, f64); 13] = [
    (country("US", "USD", -6), 27.0),
    (country("DE", "EUR", 1), 15.0),
    (country("GB", "GBP", 0), 13.0),
    (country("FR", "EUR", 1), 9.0),
    (country("CA", "CAD", -5), 5.5),
    (country("NL", "EUR", 1), 5.0),
    (country("ES", "EUR", 1), 5.0),
    (country("BR", "BRL", -3), 4.5),
    (country("IN", "INR", 5), 4.0),
    (country("PL", "PLN", 1), 4.0),
    (country("SE", "SEK", 1), 3.0),
    (country("JP", "JPY", 9), 3.0),
    (country("AU", "AUD", 10), 2.0),
];

/// Where a visit comes from: `(source, referrer, campaigns)`.
pub(super) type Source = (&'static str, Option<&'static str>, &'static [&'static str]);

pub(super) const SOURCES: [(Source, f64); 9] = [
    (("direct", None, &[]), 27.0),
    (("google", Some("www.google.com"), &[]), 26.0),
    (("google_ads", Some("www.google.com"), &["brand", "outdoor_autumn", "retargeting"]), 12.0),
    (("instagram", Some("l.instagram.com"), &["creators", "stories"]), 10.0),
    (("newsletter", Some("mail.example.net"), &["weekly", "back_in_stock"]), 8.0),
    (("facebook", Some("l.facebook.com"), &["lookalike"]), 6.0),
    (("partner", Some("gearreviews.example"), &["top10_tents", "best_jackets"]), 5.0),
    (("bing", Some("www.bing.com"), &[]), 4.0),
    (("chat_assistant", Some("chat.example.org"), &[]), 2.0),
];

/// Category, its share of interest, and the usual price in euros.
pub(super) const CATEGORIES: [((&str, f64), f64); 8] = [
    (("jackets", 149.0), 20.0),
    (("shoes", 119.0), 19.0),
    (("backpacks", 99.0), 14.0),
    (("tents", 289.0), 9.0),
    (("bottles", 24.0), 12.0),
    (("socks", 14.0), 11.0),
    (("headlamps", 49.0), 8.0),
    (("stoves", 79.0), 7.0),
];

pub(super) const SEARCHES: [&str; 14] = [
    "rain jacket",
    "trail shoes",
    "tent 2 person",
    "wool socks",
    "gift",
    "headlamp",
    "backpack 40l",
    "gas stove",
    "winter boots",
    "sale",
    "water bottle",
    "kids jacket",
    "sleeping bag",
    "poncho",
];

pub(super) const PRODUCTS: usize = 320;

pub(super) struct Product {
    pub(super) sku: String,
    pub(super) category: &'static str,
    /// In the shop's own currency, euros.
    pub(super) price: f64,
}

/// The shelves, most wanted first.
pub(super) fn products(seed: u64) -> Vec<Product> {
    (0..PRODUCTS as u64)
        .map(|index| {
            let (category, usual) = *super::dice::pick(fixed_unit(seed, "category", index), &CATEGORIES);
            let factor = 0.5 + 1.3 * fixed_unit(seed, "price", index);
            // Prices end in .90 or .50, as prices do.
            let ending = if fixed(seed, "ending", index).is_multiple_of(3) { 0.5 } else { 0.9 };
            Product {
                sku: format!("{}-{:03}", category[..2].to_uppercase(), index + 1),
                category,
                price: (usual * factor).floor() + ending,
            }
        })
        .collect()
}
