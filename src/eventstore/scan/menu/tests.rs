use super::*;
use crate::eventstore::fixture::{PROJECT, SHARD, row, rows, store_run, store_segment};
use crate::eventstore::format::StoredRow;
use crate::model::{PropertyValue, SeededRandom};
use crate::storage::conformance::on_both;

const OTHER: ProjectId = ProjectId(2);

/// A row of an event and a property that no other row has.
fn junk(n: u32) -> StoredRow {
    let mut made = row(PROJECT, n);
    made.event = format!("junk event {n:05}").into();
    made.properties = made.properties.with(&format!("junk{n:05}"), PropertyValue::Bool(true));
    made
}

async fn menu(db: &Db, project_id: ProjectId, names_max: usize) -> ProjectMenu {
    ProjectMenu::of_shard(db, SHARD, project_id, names_max).await.unwrap().finish()
}

on_both! {
    async fn a_menu_has_the_names_of_the_project_and_of_no_other(db: Db) {
        let random = SeededRandom::new(1);
        let mut neighbour = row(OTHER, 7);
        neighbour.event = "only theirs".into();
        neighbour.properties = vec![("only theirs", PropertyValue::Bool(true))].into();
        let mut mixed = rows(PROJECT, 0..300);
        mixed.push(neighbour);
        store_run(&db, &random, mixed).await;
        let segment = rows(PROJECT, 300..1_000);
        store_segment(&db, &random, segment.clone()).await;

        let found = menu(&db, PROJECT, 100).await;
        let counts: Vec<_> = found.events.iter().map(|(name, event)| (name.as_str(), event.rows)).collect();
        assert_eq!(counts, [("$pageview", 500), ("purchase", 500)]);
        let last_of = |name: &str| {
            let of_name = (0..1_000).map(|n| row(PROJECT, n)).filter(|row| row.event == name);
            of_name.map(|row| row.occurred_at).max().unwrap()
        };
        for name in ["$pageview", "purchase"] {
            assert_eq!(found.events[name].last_at, last_of(name), "{name}");
        }
        let value = &found.properties["value"];
        assert_eq!(value.kinds, BTreeMap::from([(PropertyKind::Integer, 500), (PropertyKind::Float, 500)]));
        assert_eq!((value.rows, found.properties.len()), (1_000, 2));
        assert_eq!(found.last_at, Some(last_of("$pageview").max(last_of("purchase"))));
        assert!(!found.more_events && !found.more_properties && found.left_out == (0, 0));

        let theirs = menu(&db, OTHER, 100).await;
        assert_eq!(theirs.events.keys().chain(theirs.properties.keys()).collect::<Vec<_>>(), ["only theirs"; 2]);
        assert_eq!(menu(&db, ProjectId(3), 100).await, ProjectMenu::new(100));
    }
}

on_both! {
    async fn of_too_many_names_the_rarest_are_left_out_and_counted(db: Db) {
        let random = SeededRandom::new(1);
        for n in 0..20 {
            let mut some = rows(PROJECT, n * 100..n * 100 + 10);
            some.extend((n * 100 + 10..(n + 1) * 100).map(junk));
            store_segment(&db, &random, some).await;
        }
        // 1,800 names and 2 that are frequent.
        let all = menu(&db, PROJECT, 1_802).await;
        assert_eq!((all.events.len(), all.properties.len()), (1_802, 1_802));
        assert!(!all.more_events && !all.more_properties);
        let one_less = menu(&db, PROJECT, 1_801).await;
        assert_eq!((one_less.events.len(), one_less.left_out), (1_801, (1, 1)));
        assert!(one_less.more_events && one_less.more_properties);
        let few = menu(&db, PROJECT, 3).await;
        assert_eq!(few.properties.keys().collect::<Vec<_>>(), ["junk00010", "plan", "value"]);
        assert_eq!((few.events["purchase"].rows, few.events.len()), (100, 3));
        assert_eq!(few.properties["plan"].rows, 2_000, "counted from the first object to the last");
        // Two shards as alike as can be.
        let mut both = menu(&db, PROJECT, 3).await;
        both.merge(menu(&db, PROJECT, 3).await);
        let both = both.finish();
        assert_eq!((both.properties["plan"].rows, both.events.len()), (4_000, 3));
    }
}
