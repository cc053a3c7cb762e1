//! One visit from landing to leaving: a walk through the shop that ends early more often than not.

use super::dice::Dice;
use super::event::GeneratedEvent;
use super::person::{Account, Person, Plan, Platform};
use super::world::{CATEGORIES, Product, SEARCHES, SOURCES, Source};
use crate::model::{EventId, Millis, PropertyValue};

/// The app version that came out in the middle of the time told about. Its checkout on Android
/// fails often: something for a reader of the demo to find.
const NEW_APP: &str = "5.3.0";
const OLD_APP: &str = "5.2.4";

pub(super) struct Visit<'a> {
    pub(super) seed: u64,
    pub(super) person: &'a Person,
    pub(super) account: Account,
    pub(super) is_first: bool,
    pub(super) is_sale: bool,
    /// How much of the whole time has gone, 0 to 1.
    pub(super) part: f64,
    pub(super) products: &'a [Product],
    pub(super) start: Millis,
}

/// The events of a visit in time order, and what the visit made of the person's account.
pub(super) fn walk(visit: &Visit<'_>, dice: &mut Dice) -> (Vec<GeneratedEvent>, Account) {
    let source =
        if visit.is_first || dice.chance(0.25) { visit.person.source } else { dice.weighted(&SOURCES) };
    let mut walk = Walk {
        visit,
        source,
        campaign: (!source.2.is_empty()).then(|| source.2[dice.below(source.2.len())]),
        session: format!("s{:012x}", u64::from_be_bytes(half(dice.bytes16())) >> 16),
        app_version: if visit.part > 0.55 && dice.chance((visit.part - 0.5) * 2.2) {
            NEW_APP
        } else {
            OLD_APP
        },
        // An app stays logged in; a browser forgets now and then.
        logged_in: visit.account.plan.is_some() && (visit.person.platform.is_app() || dice.chance(0.8)),
        account: visit.account,
        at: visit.start,
        events: Vec::new(),
        dice,
    };
    walk.go();
    (walk.events, walk.account)
}

fn half(bytes: [u8; 16]) -> [u8; 8] {
    bytes[..8].try_into().expect("half of sixteen bytes is eight")
}

struct Walk<'a, 'd> {
    visit: &'a Visit<'a>,
    source: &'static Source,
    campaign: Option<&'static str>,
    session: String,
    app_version: &'static str,
    logged_in: bool,
    account: Account,
    at: Millis,
    events: Vec<GeneratedEvent>,
    dice: &'d mut Dice,
}

impl Walk<'_, '_> {
    fn go(&mut self) {
        if self.dice.chance(0.55) {
            self.look("home", "/".to_owned());
        } else {
            self.look_at_category();
        }
        let bounce = if self.is_app() { 0.16 } else { 0.34 };
        if self.dice.chance(bounce) {
            return;
        }
        // An app asks at its first start; a page has a button that few press.
        if self.account.plan.is_none() && self.dice.chance(if self.is_app() { 0.42 } else { 0.07 }) {
            self.sign_up();
        }
        let cart = self.browse();
        if !cart.is_empty() {
            self.buy(&cart);
        }
        self.say_goodbye();
    }

    /// Looks at pages and products; what ended up in the cart, with quantities.
    fn browse(&mut self) -> Vec<(usize, i64)> {
        let mut cart: Vec<(usize, i64)> = Vec::new();
        let steps = 1 + self.dice.wait(3.2).min(14.0) as usize;
        for _ in 0..steps {
            if self.dice.chance(0.22) {
                self.search();
            }
            if self.dice.chance(0.38) {
                self.look_at_category();
            }
            if !self.dice.chance(0.72) {
                continue;
            }
            let product = self.wanted_product();
            self.look("product", format!("/p/{}", self.visit.products[product].sku));
            self.product_event("product_viewed", product, 1);
            let add = 0.17 * self.visit.person.intent * if self.visit.is_sale { 1.25 } else { 1.0 };
            if self.dice.chance(add) {
                let quantity = if self.dice.chance(0.85) { 1 } else { 2 + self.dice.below(3) as i64 };
                self.product_event("added_to_cart", product, quantity);
                cart.push((product, quantity));
            }
        }
        if !cart.is_empty() && self.dice.chance(0.12) {
            let (product, quantity) = cart.swap_remove(self.dice.below(cart.len()));
            self.product_event("removed_from_cart", product, quantity);
        }
        cart
    }

    fn buy(&mut self, cart: &[(usize, i64)]) {
        self.look("cart", "/cart".to_owned());
        if !self.dice.chance(0.52) {
            return;
        }
        if !self.logged_in {
            if self.account.plan.is_some() {
                self.log_in();
            } else if self.dice.chance(0.66) {
                self.sign_up();
            } else {
                return;
            }
        }
        let items: i64 = cart.iter().map(|(_, quantity)| quantity).sum();
        let full: f64 = cart.iter().map(|&(product, n)| self.visit.products[product].price * n as f64).sum();
        self.emit(
            "checkout_started",
            vec![("items", PropertyValue::Integer(items)), ("amount", PropertyValue::Float(cents(full)))],
        );
        let has_coupon = self.visit.is_sale && self.dice.chance(0.7) || self.dice.chance(0.08);
        let coupon = has_coupon.then_some(if self.visit.is_sale { "AUTUMN20" } else { "HELLO10" });
        if let Some(coupon) = coupon {
            self.emit("coupon_applied", vec![("coupon", PropertyValue::String(coupon.into()))]);
        }
        if !self.dice.chance(self.pays()) {
            return;
        }
        let rate = match coupon {
            Some("AUTUMN20") => 0.8,
            Some(_) => 0.9,
            None => 1.0,
        };
        let order = format!("o{}", 500_000 + self.dice.below(9_499_999));
        let (main, _) = cart[0];
        let mut properties = vec![
            ("order_id", PropertyValue::String(order)),
            ("amount", PropertyValue::Float(cents(full * rate))),
            ("currency", PropertyValue::String(self.visit.person.country.currency.into())),
            ("items", PropertyValue::Integer(items)),
            ("category", PropertyValue::String(self.visit.products[main].category.into())),
            ("first_order", PropertyValue::Bool(self.visit.is_first)),
        ];
        if let Some(coupon) = coupon {
            properties.push(("coupon", PropertyValue::String(coupon.into())));
        }
        self.emit("purchased", properties);
    }

    /// The chance that a started checkout is paid for.
    fn pays(&self) -> f64 {
        let usual = match self.visit.person.platform {
            Platform::WebDesktop => 0.68,
            Platform::WebPhone => 0.55,
            Platform::Ios => 0.71,
            Platform::Android if self.app_version == NEW_APP => 0.38,
            Platform::Android => 0.66,
        };
        if self.visit.is_sale { usual + 0.06 } else { usual }
    }

    fn say_goodbye(&mut self) {
        if self.logged_in && self.dice.chance(0.02) {
            let rating = PropertyValue::Integer(5 - (self.dice.wait(0.9) as i64).min(4));
            self.emit("review_written", vec![("rating", rating)]);
        }
        let Some(plan) = self.account.plan.filter(|_| self.logged_in) else { return };
        let Some(next) = plan.next() else { return };
        if self.dice.chance(0.012) {
            self.account.plan = Some(next);
            self.emit("plan_upgraded", vec![("from_plan", PropertyValue::String(plan.name().into()))]);
        }
    }

    fn sign_up(&mut self) {
        self.look("sign_up", "/sign-up".to_owned());
        self.account.plan = Some(Plan::Free);
        let method = *self.dice.weighted(&[("email", 58.0), ("google", 29.0), ("apple", 13.0)]);
        self.identify();
        self.emit("signed_up", vec![("method", PropertyValue::String(method.into()))]);
    }

    fn log_in(&mut self) {
        self.look("log_in", "/log-in".to_owned());
        self.identify();
    }

    fn identify(&mut self) {
        self.logged_in = true;
        self.emit("$identify", vec![]);
        let anonymous_id = self.visit.person.anonymous_id(self.visit.seed);
        let event = self.events.last_mut().expect("an event was just added");
        event.anonymous_id = Some(anonymous_id);
    }

    fn look_at_category(&mut self) {
        let category = self.dice.weighted(&CATEGORIES).0;
        self.look("category", format!("/c/{category}"));
    }

    /// A page of the site, known by its path, or a screen of the app, known by its name.
    fn look(&mut self, screen: &str, path: String) {
        let mut properties = Vec::with_capacity(12);
        if self.is_app() {
            properties.push(("screen", PropertyValue::String(screen.into())));
        } else {
            properties.push(("path", PropertyValue::String(path)));
            if self.events.is_empty()
                && let Some(referrer) = self.source.1
            {
                properties.push(("referrer", PropertyValue::String(referrer.into())));
            }
        }
        let name = if self.is_app() { "$screen" } else { "$pageview" };
        self.emit(name, properties);
    }

    fn search(&mut self) {
        let query = SEARCHES[self.dice.below(SEARCHES.len())];
        let results = self.dice.wait(18.0) as i64;
        self.emit(
            "searched",
            vec![
                ("query", PropertyValue::String(query.into())),
                ("results", PropertyValue::Integer(results)),
            ],
        );
    }

    fn product_event(&mut self, name: &'static str, product: usize, quantity: i64) {
        let product = &self.visit.products[product];
        let mut properties = vec![
            ("product", PropertyValue::String(product.sku.clone())),
            ("category", PropertyValue::String(product.category.into())),
            ("price", PropertyValue::Float(product.price)),
        ];
        if name != "product_viewed" {
            properties.push(("quantity", PropertyValue::Integer(quantity)));
        }
        self.emit(name, properties);
    }

    /// The first products of the list are wanted much more than the last.
    fn wanted_product(&mut self) -> usize {
        let count = self.visit.products.len();
        ((self.dice.unit().powf(2.2) * count as f64) as usize).min(count - 1)
    }

    fn is_app(&self) -> bool {
        self.visit.person.platform.is_app()
    }

    fn emit(&mut self, event: &'static str, mut properties: Vec<(&'static str, PropertyValue)>) {
        let person = self.visit.person;
        let text = |value: &str| PropertyValue::String(value.to_owned());
        let (platform, device) = match person.platform {
            Platform::WebDesktop => ("web", "desktop"),
            Platform::WebPhone => ("web", "phone"),
            Platform::Ios => ("ios", "phone"),
            Platform::Android => ("android", "phone"),
        };
        properties.push(("platform", text(platform)));
        properties.push(("device", text(device)));
        properties.push(("os", text(person.os)));
        properties.push(("country", text(person.country.code)));
        properties.push(("source", text(self.source.0)));
        properties.push(("session_id", text(&self.session)));
        if self.is_app() {
            properties.push(("app_version", text(self.app_version)));
        } else {
            properties.push(("browser", text(person.browser)));
        }
        if let Some(campaign) = self.campaign {
            properties.push(("campaign", text(campaign)));
        }
        if let Some(plan) = self.account.plan.filter(|_| self.logged_in) {
            properties.push(("plan", text(plan.name())));
        }
        let id = uuid::Builder::from_random_bytes(self.dice.bytes16()).into_uuid();
        self.events.push(GeneratedEvent {
            id: EventId(*id.as_bytes()),
            event,
            distinct_id: if self.logged_in { person.user_id() } else { person.anonymous_id(self.visit.seed) },
            anonymous_id: None,
            occurred_at: self.at,
            properties,
        });
        self.at += 700 + self.dice.wait(24_000.0) as Millis;
    }
}

fn cents(amount: f64) -> f64 {
    (amount * 100.0).round() / 100.0
}
