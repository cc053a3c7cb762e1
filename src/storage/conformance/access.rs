//! Projects, keys, accounts, sessions and the counters of failed log-ins.

use super::on_both;
use crate::model::{AccountId, KeyId, KeyKind, ProjectId, Role};
use crate::storage::StorageError;
use crate::storage::control::accounts::{self, InsertAccount};
use crate::storage::control::keys::{self, InsertKey};
use crate::storage::control::members::{self, MembershipChange};
use crate::storage::control::projects::{self, InsertProject};
use crate::storage::control::sessions::{self, InsertSession, ThrottleLimit, count_attempt};

fn account(email: &str) -> InsertAccount {
    InsertAccount {
        email: email.into(),
        name: "Ada".into(),
        password_hash: "$argon2id$…".into(),
        is_admin: false,
        created_at: 5,
    }
}

fn key(kind: KeyKind, byte: u8) -> InsertKey {
    let name = "Website".into();
    InsertKey { kind, key_hash: [byte; 32], shown: "wk_1".into(), name, created_by: None, created_at: 7 }
}

fn project(name: &str, owner: Option<AccountId>, keys: Vec<InsertKey>) -> InsertProject {
    InsertProject {
        name: name.into(),
        time_zone: "Europe/Berlin".into(),
        span: 4,
        owner,
        keys,
        created_at: 6,
    }
}

on_both! {
    async fn a_project_comes_with_its_keys_and_its_owner(db: Db) {
        let owner = accounts::create_account(&db, account("ada@example.org")).await.unwrap();
        let made = project("Shop 🍣", Some(owner), vec![key(KeyKind::Write, 1), key(KeyKind::Secret, 2)]);
        let id = projects::create_project(&db, made).await.unwrap();
        let other = projects::create_project(&db, project("Other", None, vec![])).await.unwrap();

        let found = projects::find_project(&db, id).await.unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.time_zone.as_str(), found.span), ("Shop 🍣", "Europe/Berlin", 4));
        assert_eq!(projects::list_projects(&db, 10).await.unwrap().len(), 2);
        assert_eq!(projects::list_projects_of(&db, owner).await.unwrap(), [(found, Role::Owner)]);
        assert_eq!(projects::find_role(&db, owner, id).await.unwrap(), Some(Role::Owner));
        assert_eq!(projects::find_role(&db, owner, other).await.unwrap(), None);
        projects::set_role(&db, owner, id, Role::Viewer, 9).await.unwrap();
        assert_eq!(projects::find_role(&db, owner, id).await.unwrap(), Some(Role::Viewer));

        assert!(projects::update_project(&db, id, "Shop", "UTC").await.unwrap());
        assert!(!projects::update_project(&db, ProjectId(999), "Shop", "UTC").await.unwrap());
        assert_eq!(projects::find_project(&db, id).await.unwrap().unwrap().time_zone, "UTC");
        assert_eq!(projects::find_project(&db, ProjectId(999)).await.unwrap(), None);
    }
}

on_both! {
    async fn a_project_keeps_its_last_owner(db: Db) {
        let ada = accounts::create_account(&db, account("ada@example.org")).await.unwrap();
        let eve = accounts::create_account(&db, account("eve@example.org")).await.unwrap();
        let id = projects::create_project(&db, project("Shop", Some(ada), vec![])).await.unwrap();
        let other = projects::create_project(&db, project("Other", Some(eve), vec![])).await.unwrap();
        assert!(members::add_member(&db, eve, id, Role::Viewer, 7).await.unwrap());
        assert!(!members::add_member(&db, eve, id, Role::Owner, 8).await.unwrap(), "she is one already");
        let listed = members::list_members(&db, id, 10).await.unwrap();
        let seen: Vec<_> = listed.iter().map(|m| (m.email.as_str(), m.role, m.added_at, m.is_disabled)).collect();
        assert_eq!(seen, [("ada@example.org", Role::Owner, 6, false), ("eve@example.org", Role::Viewer, 7, false)]);
        assert_eq!(members::list_members(&db, id, 1).await.unwrap().len(), 1);

        let change = |account, role| members::change_member(&db, account, id, role);
        for role in [None, Some(Role::Editor)] {
            assert_eq!(change(ada, role).await.unwrap(), MembershipChange::LastOwner, "{role:?}");
        }
        assert_eq!(change(ada, Some(Role::Owner)).await.unwrap(), MembershipChange::Done);
        assert_eq!(change(eve, Some(Role::Owner)).await.unwrap(), MembershipChange::Done);
        // Two owners who remove each other at once: one of them stays.
        let both = tokio::join!(change(ada, None), change(eve, None));
        let mut both = [both.0.unwrap(), both.1.unwrap()];
        both.sort_by_key(|change| *change as u8);
        assert_ne!(both, [MembershipChange::Done; 2]);
        let left = members::list_members(&db, id, 10).await.unwrap();
        assert_eq!((left.len(), left[0].role), (1, Role::Owner));
        assert_eq!(change(AccountId(999), None).await.unwrap(), MembershipChange::NoMember);
        assert_eq!(members::list_members(&db, other, 10).await.unwrap().len(), 1, "another project's stay");
    }
}

on_both! {
    async fn a_project_whose_key_is_taken_is_not_made_at_all(db: Db) {
        projects::create_project(&db, project("One", None, vec![key(KeyKind::Write, 1)])).await.unwrap();
        let twin = projects::create_project(&db, project("Two", None, vec![key(KeyKind::Write, 1)])).await;
        assert!(matches!(twin, Err(StorageError::Conflict { .. })), "{twin:?}");
        assert_eq!(projects::list_projects(&db, 10).await.unwrap().len(), 1);
    }
}

on_both! {
    async fn a_revoked_key_leads_nowhere_and_stays_listed(db: Db) {
        let id = projects::create_project(&db, project("One", None, vec![key(KeyKind::Write, 1)])).await.unwrap();
        let secret = keys::create_key(&db, id, key(KeyKind::Secret, 2)).await.unwrap();
        let active = keys::find_active_key(&db, &[2; 32]).await.unwrap().unwrap();
        assert_eq!((active.key_id, active.project_id, active.kind, active.span), (secret, id, KeyKind::Secret, 4));
        assert_eq!(keys::find_active_key(&db, &[3; 32]).await.unwrap(), None);
        let with_project = async |kind, hash| keys::find_key_with_project(&db, kind, &[hash; 32]).await.unwrap();
        let one = projects::find_project(&db, id).await.unwrap().unwrap();
        assert_eq!(with_project(KeyKind::Secret, 2).await, Some((secret, one)));
        assert_eq!(with_project(KeyKind::Secret, 1).await, None, "it is a write key");
        assert_eq!(with_project(KeyKind::Secret, 3).await, None);

        // A stranger's project cannot revoke it.
        assert!(!keys::revoke_key(&db, ProjectId(id.0 + 1), secret, 10).await.unwrap());
        assert!(keys::revoke_key(&db, id, secret, 10).await.unwrap());
        assert!(!keys::revoke_key(&db, id, secret, 11).await.unwrap());
        assert_eq!(keys::find_active_key(&db, &[2; 32]).await.unwrap(), None);
        assert_eq!(with_project(KeyKind::Secret, 2).await, None);

        let listed = keys::list_keys(&db, id).await.unwrap();
        let seen: Vec<_> = listed.iter().map(|key| (key.kind, key.revoked_at)).collect();
        assert_eq!(seen, [(KeyKind::Secret, Some(10)), (KeyKind::Write, None)]);
    }
}

on_both! {
    async fn active_keys_are_listed_in_pages(db: Db) {
        for byte in 1..=5 {
            projects::create_project(&db, project("P", None, vec![key(KeyKind::Write, byte)])).await.unwrap();
        }
        let first = keys::list_active_keys(&db, KeyKind::Write, KeyId(0), 3).await.unwrap();
        let rest = keys::list_active_keys(&db, KeyKind::Write, first[2].1.key_id, 3).await.unwrap();
        let hashes: Vec<u8> = first.iter().chain(&rest).map(|(hash, _)| hash[0]).collect();
        assert_eq!(hashes, [1, 2, 3, 4, 5]);
        assert_eq!(keys::list_active_keys(&db, KeyKind::Secret, KeyId(0), 3).await.unwrap(), []);
    }
}

on_both! {
    async fn an_email_belongs_to_one_account(db: Db) {
        assert!(!accounts::has_accounts(&db).await.unwrap());
        let id = accounts::create_account(&db, account("ada@example.org")).await.unwrap();
        let twin = accounts::create_account(&db, account("ada@example.org")).await;
        assert!(matches!(twin, Err(StorageError::Conflict { .. })), "{twin:?}");
        assert!(accounts::has_accounts(&db).await.unwrap());
        let found = accounts::find_account_by_email(&db, "ada@example.org").await.unwrap().unwrap();
        assert_eq!((found.account_id, found.is_admin, found.disabled_at), (id, false, None));
        // No collation decides who somebody is.
        assert!(accounts::find_account_by_email(&db, "ADA@example.org").await.unwrap().is_none());
    }
}

on_both! {
    async fn a_new_password_ends_all_sessions_of_its_account(db: Db) {
        let ada = accounts::create_account(&db, account("ada@example.org")).await.unwrap();
        let bob = accounts::create_account(&db, account("bob@example.org")).await.unwrap();
        for (byte, account_id) in [(1, ada), (2, ada), (3, bob)] {
            let session = InsertSession {
                token_hash: [byte; 32],
                account_id,
                csrf_token: [9; 32],
                created_at: 100,
                expires_at: 1_000,
            };
            sessions::create_session(&db, session).await.unwrap();
        }
        let found = sessions::find_session(&db, &[1; 32]).await.unwrap().unwrap();
        assert_eq!((found.account_id, found.email.as_str(), found.seen_at), (ada, "ada@example.org", 100));
        sessions::touch_session(&db, &[1; 32], 500).await.unwrap();
        sessions::touch_session(&db, &[1; 32], 400).await.unwrap();
        assert_eq!(sessions::find_session(&db, &[1; 32]).await.unwrap().unwrap().seen_at, 500);

        accounts::set_password(&db, ada, "new".into(), 600).await.unwrap();
        assert_eq!(accounts::find_account(&db, ada).await.unwrap().unwrap().password_hash, "new");
        assert!(sessions::find_session(&db, &[1; 32]).await.unwrap().is_none());
        assert!(sessions::find_session(&db, &[2; 32]).await.unwrap().is_none());
        assert!(sessions::find_session(&db, &[3; 32]).await.unwrap().is_some());
        assert_eq!(sessions::delete_expired_sessions(&db, 1_000).await.unwrap(), 0);
        assert_eq!(sessions::delete_expired_sessions(&db, 1_001).await.unwrap(), 1);
    }
}

on_both! {
    async fn logging_out_ends_one_session_and_logging_out_everywhere_all_of_an_account(db: Db) {
        let ada = accounts::create_account(&db, account("ada@example.org")).await.unwrap();
        let bob = accounts::create_account(&db, account("bob@example.org")).await.unwrap();
        for (byte, account_id) in [(1, ada), (2, ada), (3, ada), (4, bob)] {
            let session = InsertSession {
                token_hash: [byte; 32],
                account_id,
                csrf_token: [9; 32],
                created_at: 100,
                expires_at: 1_000,
            };
            sessions::create_session(&db, session).await.unwrap();
        }
        let left = async || {
            let mut left = Vec::new();
            for byte in 1..=4 {
                if sessions::find_session(&db, &[byte; 32]).await.unwrap().is_some() {
                    left.push(byte);
                }
            }
            left
        };
        sessions::delete_session(&db, &[2; 32]).await.unwrap();
        assert_eq!(left().await, [1, 3, 4]);
        assert_eq!(sessions::delete_sessions_of(&db, ada).await.unwrap(), 2);
        assert_eq!(left().await, [4]);
    }
}

const LIMIT: ThrottleLimit = ThrottleLimit { failures_max: 3, window_ms: 1_000, block_ms: 500 };

on_both! {
    async fn a_subject_is_blocked_after_its_limit_and_free_again_later(db: Db) {
        let attempt = |now| count_attempt(&db, [1; 32], LIMIT, now);
        for now in [10, 20, 30] {
            assert_eq!(attempt(now).await.unwrap(), None, "{now}");
        }
        assert_eq!(attempt(40).await.unwrap(), Some(530));
        assert_eq!(attempt(529).await.unwrap(), Some(530));
        assert_eq!(count_attempt(&db, [2; 32], LIMIT, 40).await.unwrap(), None, "another subject");
        // After the block a new window begins.
        for now in [530, 531, 532] {
            assert_eq!(attempt(now).await.unwrap(), None, "{now}");
        }
        assert_eq!(attempt(533).await.unwrap(), Some(1_032));
        sessions::clear_failures(&db, &[1; 32]).await.unwrap();
        assert_eq!(attempt(534).await.unwrap(), None);
    }
}

on_both! {
    async fn old_failures_are_forgotten_and_right_attempts_taken_back(db: Db) {
        let attempt = |now| count_attempt(&db, [1; 32], LIMIT, now);
        attempt(0).await.unwrap();
        attempt(1).await.unwrap();
        // The window ends 1,000 ms after its first attempt.
        for now in [1_000, 1_001, 1_002] {
            assert_eq!(attempt(now).await.unwrap(), None, "{now}");
            sessions::forgive_failure(&db, &[1; 32]).await.unwrap();
        }
        assert_eq!(attempt(1_003).await.unwrap(), None);
        assert_eq!(sessions::delete_old_failures(&db, 1_000).await.unwrap(), 0);
        assert_eq!(sessions::delete_old_failures(&db, 1_001).await.unwrap(), 1);
    }
}

on_both! {
    async fn attempts_made_together_do_not_pass_the_limit(db: Db) {
        let tasks: Vec<_> = (0..12)
            .map(|_| {
                let db = db.clone();
                tokio::spawn(async move { count_attempt(&db, [1; 32], LIMIT, 10).await })
            })
            .collect();
        let mut judged = 0;
        for task in tasks {
            judged += u32::from(task.await.unwrap().unwrap().is_none());
        }
        assert_eq!(judged, 3);
    }
}
