use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::*;
use crate::model::{ManualClock, utc_day};

fn recipe(events: u64) -> Recipe {
    // 2026-03-10T15:30:00Z, a Tuesday afternoon.
    Recipe { seed: 1, events, persons: (events / 24) as u32, days: 30, until: 1_773_156_600_000 }
}

#[test]
fn the_same_recipe_gives_the_same_events() {
    let once: Vec<_> = GeneratedEvents::new(recipe(5_000)).collect();
    let again: Vec<_> = GeneratedEvents::new(recipe(5_000)).collect();
    assert_eq!(once, again);
    let other: Vec<_> = GeneratedEvents::new(Recipe { seed: 2, ..recipe(5_000) }).collect();
    assert_ne!(once, other);
}

#[test]
fn counts_are_exact_times_rise_and_ids_are_unique() {
    for events in [1, 7, 1_000, 20_000] {
        let recipe = recipe(events);
        let (from, until) = (recipe.from(), recipe.until);
        let all: Vec<_> = GeneratedEvents::new(recipe).collect();
        assert_eq!(all.len() as u64, events);
        assert!(all.windows(2).all(|pair| pair[0].occurred_at <= pair[1].occurred_at));
        assert!(all.iter().all(|event| (from..until).contains(&event.occurred_at)));
        assert_eq!(all.iter().map(|event| event.id).collect::<HashSet<_>>().len(), all.len());
    }
}

#[test]
fn every_day_has_events_and_the_funnel_leaks() {
    let mut days = BTreeMap::new();
    let mut names = BTreeMap::<&str, u64>::new();
    let mut persons = BTreeSet::new();
    let recipe = recipe(60_000);
    let (from, until) = (recipe.from(), recipe.until);
    for event in GeneratedEvents::new(recipe) {
        *days.entry(utc_day(event.occurred_at)).or_insert(0) += 1;
        *names.entry(event.event).or_default() += 1;
        persons.insert(event.distinct_id);
    }
    assert_eq!(days.len(), 30);
    assert_eq!(*days.keys().next().unwrap(), utc_day(from));
    assert_eq!(*days.keys().last().unwrap(), utc_day(until));
    assert!((7..=14).contains(&names.len()), "{names:?}");
    let steps = ["product_viewed", "added_to_cart", "checkout_started", "purchased"].map(|name| names[name]);
    assert!(steps.windows(2).all(|pair| pair[1] < pair[0] && pair[1] * 12 > pair[0]), "{steps:?}");
    assert!((1_000..5_000).contains(&persons.len()), "{}", persons.len());
}

#[test]
fn a_day_that_is_not_over_ends_now() {
    let clock = ManualClock::new(1_773_156_600_000);
    let until = |text: Option<&str>| {
        let args = RecipeArgs { events: 10, days: 1, persons: None, until: text.map(str::to_owned), seed: 1 };
        args.recipe(&clock).map(|recipe| recipe.until)
    };
    assert_eq!(until(None).unwrap(), clock.now_ms());
    assert_eq!(until(Some("2026-03-10")).unwrap(), clock.now_ms());
    assert_eq!(until(Some("2026-03-09")).unwrap(), 1_773_100_800_000);
    assert_eq!(until(Some("2026-03-09T01:00:00Z")).unwrap(), 1_773_018_000_000);
    assert!(until(Some("yesterday")).is_err());
}
