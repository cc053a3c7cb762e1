//! The events of all visits, in time order.

use std::collections::BTreeMap;

use super::dice::Dice;
use super::event::GeneratedEvent;
use super::person::{Account, Person, Plan};
use super::rhythm::{BUSIEST, Rhythm, local_activity};
use super::session::{Visit, walk};
use super::world::{Product, products};
use crate::model::{DAY_MS, Millis, utc_day};

/// Of all persons, those who already knew the shop when the telling begins.
const KNOWN_BEFORE: f64 = 0.35;

/// How many persons are looked at before one is taken although it would rather sleep or stay away.
const CANDIDATES: usize = 24;

#[derive(Clone, Debug)]
pub struct Recipe {
    pub seed: u64,
    /// Exactly as many events are made.
    pub events: u64,
    /// About as many persons; fewer when there are not enough visits for all of them.
    pub persons: u32,
    /// Calendar days (UTC), the last of which ends at `until`.
    pub days: u32,
    /// No event is at or after this moment.
    pub until: Millis,
}

impl Recipe {
    /// The midnight at which the first day begins.
    pub fn from(&self) -> Millis {
        let last_day = utc_day(self.until - 1);
        Millis::from(last_day - self.days as i32 + 1) * DAY_MS
    }
}

/// Generated events in time order.
///
/// Every visit takes as many of the `events` as it has steps, and starts where the rhythm puts
/// that share of them: so the count is exact, the curve has the right shape, and only the visits
/// that are under way are in memory (and a byte for each person).
pub struct GeneratedEvents {
    recipe: Recipe,
    rhythm: Rhythm,
    products: Vec<Product>,
    dice: Dice,
    accounts: Vec<Account>,
    /// Events of visits made so far, and those given away.
    planned: u64,
    /// By time and then number, for events of equal time.
    waiting: BTreeMap<(Millis, u64), GeneratedEvent>,
    /// Where the latest visit began: nothing before it can still be added.
    visits_until: Millis,
}

impl GeneratedEvents {
    pub fn new(recipe: Recipe) -> Self {
        let rhythm = Rhythm::new(recipe.seed, recipe.from(), recipe.until);
        let mut this = Self {
            products: products(recipe.seed),
            dice: Dice::new(recipe.seed),
            rhythm,
            accounts: Vec::new(),
            planned: 0,
            waiting: BTreeMap::new(),
            visits_until: recipe.from(),
            recipe,
        };
        let known = f64::from(this.recipe.persons) * KNOWN_BEFORE;
        for _ in 0..(known as u32).max(1) {
            let plan = *this.dice.weighted(&[
                (Some(Plan::Free), 48.0),
                (Some(Plan::Plus), 15.0),
                (Some(Plan::Pro), 7.0),
                (None, 30.0),
            ]);
            this.accounts.push(Account { plan });
        }
        this
    }

    fn add_visit(&mut self) {
        let part = self.planned as f64 / self.recipe.events as f64;
        let start = self.rhythm.moment(part);
        let (person, is_first) = self.choose_person(part, start);
        let number = person.number as usize;
        let visit = Visit {
            seed: self.recipe.seed,
            person: &person,
            account: self.accounts[number],
            is_first,
            is_sale: self.rhythm.is_sale(start),
            part,
            products: &self.products,
            start,
        };
        let (events, account) = walk(&visit, &mut self.dice);
        self.accounts[number] = account;
        for event in events {
            if self.planned == self.recipe.events || event.occurred_at >= self.recipe.until {
                break;
            }
            self.waiting.insert((event.occurred_at, self.planned), event);
            self.planned += 1;
        }
        self.visits_until = start;
    }

    /// Somebody new when the growth asks for it, else somebody known: rather somebody who came
    /// lately, is loyal, and is awake where they live.
    fn choose_person(&mut self, part: f64, at: Millis) -> (Person, bool) {
        let known = self.accounts.len() as u32;
        let due = f64::from(self.recipe.persons) * (KNOWN_BEFORE + (1.0 - KNOWN_BEFORE) * part);
        if f64::from(known) < due {
            self.accounts.push(Account { plan: None });
            return (Person::new(self.recipe.seed, known), true);
        }
        let mut candidate = None;
        for _ in 0..CANDIDATES {
            let back = (self.dice.unit().powf(1.6) * f64::from(known)) as u32;
            let person = Person::new(self.recipe.seed, known - 1 - back.min(known - 1));
            let awake = local_activity(at, person.country.utc_offset_hours) / BUSIEST;
            let comes = awake * (0.08 + 0.92 * person.loyalty);
            candidate = Some(person);
            if self.dice.chance(comes) {
                break;
            }
        }
        (candidate.expect("at least one candidate was looked at"), false)
    }
}

impl Iterator for GeneratedEvents {
    type Item = GeneratedEvent;

    fn next(&mut self) -> Option<GeneratedEvent> {
        loop {
            let all_planned = self.planned == self.recipe.events;
            match self.waiting.first_key_value() {
                // A later visit may begin at the very millisecond of the latest one, not before it.
                Some((&(at, _), _)) if all_planned || at < self.visits_until => {
                    return self.waiting.pop_first().map(|(_, event)| event);
                }
                None if all_planned => return None,
                _ => self.add_visit(),
            }
        }
    }
}
