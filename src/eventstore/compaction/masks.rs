//! What compaction does about masked persons.
//!
//! * Every merge leaves their rows out, once nobody needs them any more: those of an erased person at
//!   once, those of a linked one when all have been copied. What it writes records up to which masks it
//!   obeys ([`LeftOut`]).
//! * After an erasure ([`Compactor::erase_rows`]) every object that holds the person is written again,
//!   and what those were replaced by, or what had been replaced before, is deleted after a short grace.
//! * Now and then ([`Compactor::tidy_masks`]) a few objects that have stayed behind are looked through, the
//!   least obedient first: they are written again, or it is recorded that they hold nobody. Masks that all
//!   objects obey go.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::choose::{Candidate, Merge};
use super::merge::Input;
use super::{Compacted, CompactionError, Compactor, Why};
use crate::eventstore::format::StoredRow;
use crate::eventstore::held::{self, Persons};
use crate::eventstore::retention::Cuts;
use crate::eventstore::scan::ScanError;
use crate::model::{FastSet, Millis, ObjectId, PersonNo, ProjectId, ShardNo};
use crate::storage::Db;
use crate::storage::server::leases::Lease;
use crate::storage::server::masks::{self, Mask, ShardMasks};
use crate::storage::server::objects::{self, ObjectInState, ObjectKind};

/// How long an object that holds an erased person stays for those who are still reading it. Whoever
/// takes longer finds a part missing and lists anew.
pub const ERASED_GRACE_MS: Millis = 3_000;
/// Objects that are looked through for linked persons at a time, and how often.
const OBJECTS_TIDIED_MAX: usize = 8;
const TIDY_EVERY_MS: Millis = 10 * 60_000;
/// Objects listed after an erasure at a time.
const OBJECTS_LISTED_MAX: usize = 10_000;

/// Which rows a merge leaves out, and what that makes of its outputs.
#[derive(Clone, Default, Debug)]
pub(super) struct LeftOut {
    persons: FastSet<(ProjectId, PersonNo)>,
    /// Of projects that have older rows in the inputs.
    cuts: Cuts,
    /// Up to which masks the outputs obey.
    pub version: i64,
}

impl LeftOut {
    pub fn has_person(&self, row: &StoredRow) -> bool {
        !self.persons.is_empty() && self.persons.contains(&(row.project_id, row.person_no))
    }

    pub fn is_expired(&self, row: &StoredRow) -> bool {
        let cut = if self.cuts.is_empty() { None } else { self.cuts.get(&row.project_id) };
        cut.is_some_and(|&kept_from| row.occurred_at < kept_from)
    }

    pub fn is_empty(&self) -> bool {
        self.persons.is_empty() && self.cuts.is_empty()
    }

    /// With the cuts that concern the inputs.
    fn with_cuts(self, inputs: &[Input], mut cuts: Cuts) -> Self {
        cuts.retain(|project_id, kept_from| {
            let slices = inputs.iter().filter_map(|input| input.facts.slice_of(*project_id));
            slices.map(|slice| slice.occurred_min).any(|first| first < *kept_from)
        });
        Self { cuts, ..self }
    }

    /// For inputs that obey all masks up to `above`.
    fn of(inputs: &[Input], above: i64, shard: &ShardMasks) -> Self {
        let mut masked = Self { version: shard.version.max(above), ..Self::default() };
        for mask in shard.masks.iter().filter(|mask| mask.version > above) {
            if !mask.is_moving {
                masked.persons.insert((mask.project_id, mask.person_no));
            } else if inputs.iter().any(|input| may_hold(input, mask)) {
                // These rows stay, so the outputs obey only what was masked before.
                masked.version = masked.version.min(mask.version - 1);
            }
        }
        masked
    }
}

fn may_hold(input: &Input, mask: &Mask) -> bool {
    let slice = input.facts.slice_of(mask.project_id);
    slice.is_some_and(|slice| (slice.person_min..=slice.person_max).contains(&mask.person_no))
}

impl From<ScanError> for CompactionError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Storage(error) => Self::Storage(error),
            ScanError::Format { object_id, source } => Self::Unreadable { object_id, source },
            ScanError::Outrun => Self::Overtaken,
            ScanError::Stopped(error) => Self::Stopped(error),
        }
    }
}

/// What has been seen of a shard's masks by this process.
#[derive(Default)]
pub(super) struct SeenMasks {
    /// The erasures whose rows are gone for certain.
    erased: i64,
    /// Objects that hold none of the persons who were erased up to a version: they never will.
    clear: BTreeMap<ObjectId, i64>,
    tidied_at: Option<Millis>,
}

#[cfg(test)]
impl SeenMasks {
    pub fn due(&mut self) {
        self.tidied_at = Some(Millis::MIN / 2);
    }
}

/// What of a shard's masks is to be done under the lease.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct MaskWork {
    /// There were erasures that this process has not seen the end of: their number.
    pub erasures: Option<i64>,
    pub tidy: bool,
}

impl MaskWork {
    pub fn is_any(self) -> bool {
        self.erasures.is_some() || self.tidy
    }
}

impl Compactor {
    /// One look at a row by its key, in a shard that was never masked in.
    pub(super) async fn find_mask_work(
        &self,
        db: &Db,
        shard_no: ShardNo,
        now: Millis,
    ) -> Result<MaskWork, CompactionError> {
        let versions = masks::read_versions(db, shard_no).await?;
        let mut seen = self.seen();
        let seen = seen.masks.entry(shard_no).or_default();
        let is_due = *seen.tidied_at.get_or_insert(now - TIDY_EVERY_MS / 2) + TIDY_EVERY_MS <= now;
        Ok(MaskWork {
            erasures: (versions.erasures > seen.erased).then_some(versions.erasures),
            tidy: versions.masks > 0 && is_due,
        })
    }

    /// What a merge of these inputs leaves out. Read before the merge, so that a mask which is set
    /// meanwhile is above the version of what it writes.
    pub(super) async fn left_out(
        &self,
        db: &Db,
        shard_no: ShardNo,
        inputs: &[Input],
        above: i64,
    ) -> Result<LeftOut, CompactionError> {
        let left_out = match masks::read_versions(db, shard_no).await?.masks {
            latest if latest <= above => LeftOut { version: above, ..LeftOut::default() },
            _ => LeftOut::of(inputs, above, &masks::read_shard(db, shard_no, above).await?),
        };
        Ok(left_out.with_cuts(inputs, self.retention.cuts(self.now(db).await?)))
    }

    /// Writes every object again that holds an erased person. Not done as long as one is left in any
    /// state.
    pub(super) async fn erase_rows(
        &self,
        db: &Db,
        lease: &Lease,
        erasures: i64,
        done: &mut Compacted,
    ) -> Result<(), CompactionError> {
        let shard_no = lease.shard_no;
        let shard = masks::read_shard(db, shard_no, 0).await?;
        let erased: Vec<Mask> = shard.masks.iter().copied().filter(|mask| mask.is_erased).collect();
        let Some(version) = erased.iter().map(|mask| mask.version).max() else {
            self.erasures_seen(shard_no, erasures, |_| false);
            return Ok(());
        };
        let listed = objects::list_below(db, shard_no, version, OBJECTS_LISTED_MAX).await?;
        let is_all = listed.len() < OBJECTS_LISTED_MAX;
        let ids: HashSet<ObjectId> = listed.iter().map(|listed| listed.object.object_id).collect();
        let mut is_clear = is_all;
        for listed in listed {
            let ObjectInState { object, is_live } = &listed;
            let known = self.seen().masks.entry(shard_no).or_default().clear.get(&object.object_id).copied();
            let above = known.unwrap_or(0).max(object.mask_version);
            let persons = persons_of(erased.iter().filter(|mask| mask.version > above));
            let facts = held::facts_of(object)?;
            match held::count_held(db, object, &facts, &persons).await? {
                // Deleted since it was listed.
                None => continue,
                Some(held) if held.is_empty() => {
                    let mut seen = self.seen();
                    seen.masks.entry(shard_no).or_default().clear.insert(object.object_id, version);
                }
                Some(_) if *is_live => {
                    is_clear = false;
                    self.step(db, lease, rewrite(&listed), Why::Erased, done).await?;
                }
                Some(_) => {
                    is_clear = false;
                    let retired_at = self.soon_deleted(self.now(db).await?);
                    objects::hasten(db, object.kind, shard_no, object.object_id, retired_at).await?;
                }
            }
        }
        if is_clear {
            self.erasures_seen(shard_no, erasures, |object_id| ids.contains(object_id));
        }
        Ok(())
    }

    fn erasures_seen(&self, shard_no: ShardNo, erasures: i64, keep: impl Fn(&ObjectId) -> bool) {
        let mut seen = self.seen();
        let seen = seen.masks.entry(shard_no).or_default();
        seen.erased = erasures;
        seen.clear.retain(|object_id, _| keep(object_id));
    }

    /// With this time of retirement an object goes when the short grace is over.
    pub(super) fn soon_deleted(&self, now: Millis) -> Millis {
        now - (self.grace_ms - ERASED_GRACE_MS.min(self.grace_ms))
    }

    /// Brings some of the objects forward that obey fewer masks than others, and takes away the masks
    /// that all obey.
    pub(super) async fn tidy_masks(
        &self,
        db: &Db,
        lease: &Lease,
        done: &mut Compacted,
    ) -> Result<(), CompactionError> {
        let shard_no = lease.shard_no;
        let shard = masks::read_shard(db, shard_no, 0).await?;
        let behind = objects::list_below(db, shard_no, shard.version, OBJECTS_TIDIED_MAX).await?;
        for listed in behind.iter().filter(|listed| listed.is_live) {
            let object = &listed.object;
            let masks = shard.masks.iter().filter(|mask| mask.version > object.mask_version);
            let facts = held::facts_of(object)?;
            let Some(held) = held::count_held(db, object, &facts, &persons_of(masks.clone())).await? else {
                continue;
            };
            let holds = |mask: &&Mask| held.contains_key(&(mask.project_id, mask.person_no));
            if masks.clone().filter(holds).any(|mask| !mask.is_moving) {
                self.step(db, lease, rewrite(listed), Why::Masked, done).await?;
                continue;
            }
            let kept = masks.filter(holds).map(|mask| mask.version - 1).min();
            let version = kept.unwrap_or(shard.version);
            objects::raise_masks(db, object.kind, shard_no, object.object_id, version).await?;
        }
        // Again, for what was just written and raised. What is replaced counts until it is deleted.
        let shard = masks::read_shard(db, shard_no, 0).await?;
        let up_to = shard.least_of_objects.unwrap_or(shard.version);
        let gone = shard.masks.iter().filter(|mask| mask.version <= up_to && !mask.is_moving);
        for (project_id, persons) in persons_of(gone) {
            masks::delete(db, shard_no, project_id, &persons, up_to).await?;
        }
        let now = self.now(db).await?;
        self.seen().masks.entry(shard_no).or_default().tidied_at = Some(now);
        Ok(())
    }
}

fn persons_of<'m>(masks: impl Iterator<Item = &'m Mask>) -> Persons {
    let mut persons: BTreeMap<ProjectId, BTreeSet<PersonNo>> = BTreeMap::new();
    for mask in masks {
        persons.entry(mask.project_id).or_default().insert(mask.person_no);
    }
    persons.into_iter().map(|(project_id, persons)| (project_id, persons.into_iter().collect())).collect()
}

/// One object, into as many as its rows need now.
fn rewrite(listed: &ObjectInState) -> Merge {
    let inputs = vec![Candidate::from(&listed.object)];
    match (listed.object.kind, listed.object.project_id) {
        (ObjectKind::Segment, Some(project_id)) => Merge::Segments { project_id, inputs },
        _ => Merge::Runs { inputs, to_segments: false },
    }
}
