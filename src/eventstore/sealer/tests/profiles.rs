//! Days and traits of persons, as passes leave them.

use super::*;
use crate::storage::server::persons as stored_persons;
use crate::storage::server::profiles::{self, Days};

/// An event that sets things, `(name, value)` each.
fn says(who: &str, id: u8, day: i64, properties: &[(&str, i64)]) -> Event {
    let mut said = event(who, id, day * DAY_MS);
    said.properties =
        properties.iter().map(|(name, value)| (*name, PropertyValue::Integer(*value))).collect();
    said
}

/// The days and the traits, `name=value` each, of whoever has this id.
async fn profile(db: &Db, who: &str) -> (Option<Days>, String) {
    let known = stored_persons::find_ids(db, SHARD, PROJECT, &[who.to_owned()]).await.unwrap();
    let found = profiles::find_profiles(db, SHARD, PROJECT, &[known[0].person_no]).await.unwrap();
    let traits =
        found[0].traits.as_deref().map_or_else(Traits::default, |bytes| Traits::decode(bytes).unwrap());
    let shown =
        traits.values().iter().map(|(name, value)| format!("{name}={}", value.to_json())).collect::<Vec<_>>();
    (found[0].days, shown.join(" "))
}

/// From now on nobody may change a person.
async fn forbid_changes(db: &Db) {
    static FORBID: Statement = Statement {
        name: "test.forbid",
        mysql: "CREATE TRIGGER forbid BEFORE UPDATE ON persons FOR EACH ROW \
                SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'told to refuse'",
        sqlite: "CREATE TRIGGER forbid BEFORE UPDATE ON persons \
                 BEGIN SELECT RAISE(ABORT, 'told to refuse'); END",
    };
    db.execute(&FORBID, vec![]).await.unwrap();
}

on_both! {
    async fn a_profile_is_written_when_it_changes_and_never_for_a_resend(db: Db) {
        let (context, mut memory) = (context(1_000), memory());
        let first = [says("u", 1, 5, &[("$set.plan", 1), ("n", 7)]), says("u", 2, 3, &[])];
        send(&db, 1, &first).await;
        pass(&db, &context, &mut memory).await;
        assert_eq!(profile(&db, "u").await, (Some((3, 5)), "plan=1".to_owned()));
        let mut identify = says("u", 3, 4, &[("name", 9), ("$os", 1), ("$set_once.plan", 8)]);
        identify.event = "$identify".into();
        send(&db, 2, &[identify.clone(), says("u", 4, 8, &[("$set.plan", 2)])]).await;
        pass(&db, &context, &mut memory).await;
        let expected = (Some((3, 8)), "name=9 plan=2".to_owned());
        assert_eq!(profile(&db, "u").await, expected);

        forbid_changes(&db).await;
        // The same again, one of them with other content, and what says nothing new.
        let resent = [first.as_slice(), &[identify, says("u", 4, 8, &[("$set.plan", 3)])]].concat();
        send(&db, 3, &resent).await;
        assert_eq!(pass(&db, &context, &mut memory).await.duplicates, 4);
        send(&db, 4, &[says("u", 5, 6, &[("$set.plan", 4), ("$set_once.name", 5)])]).await;
        assert_eq!(pass(&db, &context, &mut memory).await.rows, 1);
        // Whoever has the lease next knows nothing and finds the same.
        send(&db, 5, &[says("u", 6, 7, &[("$set.plan", 4)])]).await;
        assert_eq!(pass(&db, &context, &mut super::memory()).await.rows, 1);
        assert_eq!(profile(&db, "u").await, expected);
    }
}

on_both! {
    async fn profiles_do_not_depend_on_the_order_of_passes(db: Db) {
        let (context, mut memory) = (context(1_000), memory());
        let all = |who: &str| {
            [
                says(who, 1, 5, &[("$set.a", 1), ("$set_once.b", 1)]),
                says(who, 2, 3, &[("$set.a", 2), ("$set_once.b", 2)]),
                says(who, 3, 9, &[("$set_once.a", 3), ("$set_once.c", 3)]),
                says(who, 4, 9, &[("$set.c", 4)]),
            ]
        };
        let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]];
        for turn in 0..4 {
            let sent: Vec<Event> =
                orders.iter().enumerate().map(|(n, order)| all(&format!("u{n}"))[order[turn]].clone()).collect();
            send(&db, turn as u8, &sent).await;
            pass(&db, &context, &mut memory).await;
        }
        send(&db, 9, &all("at once")).await;
        pass(&db, &context, &mut memory).await;
        for who in ["at once", "u0", "u1", "u2", "u3"] {
            assert_eq!(profile(&db, who).await, (Some((3, 9)), "a=1 b=2 c=4".to_owned()), "{who}");
        }
    }
}

on_both! {
    async fn too_many_traits_and_unreadable_ones_are_counted_and_hold_nothing_up(db: Db) {
        let context = SealContext { traits: TraitLimits { keys_max: 2, bytes_max: 1_000 }, ..context(1_000) };
        let mut memory = memory();
        send(&db, 1, &[says("u", 1, 2, &[("$set.c", 3), ("$set.d", 4)]), says("u", 2, 1, &[("$set.a", 1)])]).await;
        assert_eq!(pass(&db, &context, &mut memory).await.traits_dropped, 1);
        // The oldest stay, and what is there may change.
        assert_eq!(profile(&db, "u").await.1, "a=1 c=3");
        send(&db, 2, &[says("u", 3, 3, &[("$set.c", 5), ("$set.e", 6)])]).await;
        assert_eq!(pass(&db, &context, &mut memory).await.traits_dropped, 1);
        assert_eq!(profile(&db, "u").await.1, "a=1 c=5");

        let newer = b"{\"v\":99}".to_vec();
        let write = newer.clone();
        db.transaction(move |tx| {
            let write = write.clone();
            Box::pin(async move { profiles::set_traits(tx, SHARD, PROJECT, &[(0, write)], 1).await })
        })
        .await
        .unwrap();
        send(&db, 3, &[says("u", 4, 4, &[("$set.c", 7)])]).await;
        let outcome = pass(&db, &context, &mut memory).await;
        assert_eq!((outcome.rows, outcome.traits_dropped), (1, 1));
        let kept = profiles::find_profiles(&db, SHARD, PROJECT, &[0]).await.unwrap();
        assert_eq!((kept[0].traits.clone(), kept[0].days), (Some(newer), Some((1, 4))));
    }
}
