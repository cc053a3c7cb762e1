//! From the numbers of a shard's persons to what they are called.

use std::collections::HashMap;

use super::kernels::step_persons::{NumberedPersons, StepPerson, StepPersons};
use super::question_kind::QuestionKind;
use crate::model::{Millis, PersonNo, ProjectId, ShardNo};
use crate::storage::StorageError;
use crate::storage::server::persons;

/// Names of one look-up, and those that are held beyond a question's limit while it is made.
const NAMES_AT_ONCE: usize = 1_000;

#[derive(Debug, thiserror::Error)]
pub(super) enum NamingError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Erased or linked to another since the rows were listed: a new list knows.
    #[error("a person of this shard changed while it was read")]
    Changed,
}

impl QuestionKind {
    /// The `limit` first of a shard's persons, with their names.
    pub(super) async fn name_persons(
        &self,
        shard_no: ShardNo,
        project_id: ProjectId,
        numbered: NumberedPersons,
        limit: usize,
    ) -> Result<StepPersons, NamingError> {
        let db = self.shards.db_of(shard_no)?;
        let mut named = StepPersons { total: numbered.total, persons: Vec::new() };
        for some in numbered.persons.chunks(NAMES_AT_ONCE) {
            let numbers: Vec<PersonNo> = some.iter().map(|&(_, person_no)| person_no).collect();
            let names = persons::find_names(db, shard_no, project_id, &numbers).await?;
            named.take(with_names(some, names).ok_or(NamingError::Changed)?, limit);
        }
        Ok(named)
    }
}

/// `None` when somebody has no name.
fn with_names(some: &[(Millis, PersonNo)], names: Vec<(PersonNo, String)>) -> Option<Vec<StepPerson>> {
    let mut names: HashMap<PersonNo, String> = names.into_iter().collect();
    let named = some.iter().map(|(reached_at, person_no)| {
        let distinct_id = names.remove(person_no)?;
        Some(StepPerson { reached_at: *reached_at, distinct_id })
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_left_out_for_want_of_a_name() {
        let some = [(5, 7), (4, 3)];
        let names = |persons: &[(PersonNo, &str)]| -> Vec<(PersonNo, String)> {
            persons.iter().map(|&(person_no, name)| (person_no, name.to_owned())).collect()
        };
        let found = with_names(&some, names(&[(3, "c"), (7, "g")])).unwrap();
        let found: Vec<_> = found.iter().map(|p| (p.reached_at, p.distinct_id.as_str())).collect();
        assert_eq!(found, [(5, "g"), (4, "c")]);
        assert!(with_names(&some, names(&[(3, "c")])).is_none());
    }
}
