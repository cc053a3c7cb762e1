//! What erasures that wait keep from others.

use super::*;

async fn erasures_that_wait_leave_slots_to_questions(databases: [TestDatabase; 3]) {
    let world = World::new(&databases, 2).await;
    let ids: Vec<String> = (0..=SLOTS).map(|n| format!("id{n}")).collect();
    for id in &ids {
        world.commit(world.event(id, 1), false).await;
    }
    world.settle().await;
    // Nobody compacts, so all of them have to wait.
    let mut erasures = Vec::new();
    for id in &ids {
        erasures.push(world.submit(ERASURE, json!({"distinct_id": id})).await);
    }
    while !world.events().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = world.submit("question", json!({"n": 1})).await;
    let answered = tokio::time::timeout(WAIT_HERE / 2, world.result(asked)).await;
    assert_eq!(answered.expect("a slot is free"), json!({"seen": "[]"}));
    world
        .live(async {
            for erasure in erasures {
                assert_eq!(world.result(erasure).await["events"], 1);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erasures_that_wait_leave_slots_to_questions_sqlite() {
    erasures_that_wait_leave_slots_to_questions([fresh_sqlite(), fresh_sqlite(), fresh_sqlite()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erasures_that_wait_leave_slots_to_questions_mysql() {
    let databases = [fresh_mysql().await, fresh_mysql().await, fresh_mysql().await];
    erasures_that_wait_leave_slots_to_questions(databases).await;
}
