//! One step: inputs read whole, merged, uploaded, and put in the place of the inputs in one short
//! transaction.

use super::choose::{Candidate, Merge, level};
use super::merge::{self, Input, Merged};
use super::{Compacted, CompactionError, Compactor, Why};
use crate::eventstore::failpoint;
use crate::eventstore::format::{HEADER_PART, ObjectFacts, ObjectReader, PartSet};
use crate::eventstore::objects::Placement;
use crate::model::{Millis, ObjectId, ShardNo};
use crate::storage::Db;
use crate::storage::server::leases::{self, Lease};
use crate::storage::server::objects::{self, ObjectKind};

impl Compactor {
    pub(super) async fn step(
        &self,
        db: &Db,
        lease: &Lease,
        merge: Merge,
        why: Why,
        done: &mut Compacted,
    ) -> Result<(), CompactionError> {
        let timer = self.metrics.step_seconds.start_timer();
        let (kind, candidates) = (merge.kind(), merge.inputs().to_vec());
        let rows: u64 = candidates.iter().map(|candidate| candidate.rows).sum();
        let must_leave = why != Why::Size || matches!(merge, Merge::Runs { to_segments: true, .. });
        let (Merged { outputs, dropped, expired }, mask_version) =
            self.merge(db, lease.shard_no, merge).await?;
        let of_same_kind = outputs.iter().filter(|output| output.kind() == kind).count();
        if !must_leave && of_same_kind == outputs.len() && outputs.len() >= candidates.len() {
            self.seen().settled.extend(candidates.iter().map(|candidate| candidate.object_id));
            return Ok(());
        }
        let now = self.now(db).await?;
        let (mut placements, mut bytes) = (Vec::with_capacity(outputs.len()), 0);
        for output in outputs {
            let placement = Placement {
                object_id: ObjectId::random(&*self.random),
                shard_no: lease.shard_no,
                project_id: output.project_id,
                tier: level(output.object.facts.rows),
                mask_version,
            };
            let object = placement.place(output.object);
            bytes += object.bytes();
            objects::upload(db, object, now).await?;
            placements.push(placement);
        }
        failpoint::hit("compact.after_parts");
        let retired: Vec<ObjectId> = candidates.iter().map(|candidate| candidate.object_id).collect();
        let retired_at = match why {
            Why::Size | Why::Masked | Why::Expired => now,
            Why::Erased => self.soon_deleted(now),
        };
        let lease_ms = self.lease_ms;
        let replaced = replace(db, *lease, lease_ms, kind, (retired, retired_at), placements.clone()).await;
        if let Err(error) = replaced {
            // What was written for nothing goes at once: it may hold rows of somebody who was erased.
            for placement in placements {
                let _ =
                    objects::discard(db, placement.kind(), lease.shard_no, placement.object_id, now).await;
            }
            return Err(error);
        }
        failpoint::hit("compact.after_commit");
        if let Some(arrivals) = self.seen().arrivals.get_mut(&lease.shard_no) {
            placements.iter().for_each(|placement| arrivals.wrote(placement.object_id));
        }

        done.steps += 1;
        done.inputs += candidates.len() as u64;
        done.outputs += placements.len() as u64;
        done.rows += rows;
        done.dropped += dropped;
        done.expired += expired;
        done.bytes += bytes;
        self.metrics.bytes.inc_by(bytes);
        self.metrics.dropped.inc_by(dropped);
        self.metrics.expired.inc_by(expired);
        timer.observe_duration();
        let inputs = match kind {
            ObjectKind::Run => "runs",
            ObjectKind::Segment => "segments",
        };
        self.metrics.merges.with_label_values(&[inputs]).inc();
        self.metrics.objects.with_label_values(&["merged"]).inc_by(candidates.len() as u64);
        self.metrics.objects.with_label_values(&["written"]).inc_by(placements.len() as u64);
        self.metrics.rows.inc_by(rows);
        tracing::debug!(
            shard.no = lease.shard_no.0,
            inputs = candidates.len(),
            outputs = placements.len(),
            rows,
            "objects were merged"
        );
        Ok(())
    }

    /// What becomes of the inputs, and up to which masks it obeys.
    async fn merge(
        &self,
        db: &Db,
        shard_no: ShardNo,
        merge: Merge,
    ) -> Result<(Merged, i64), CompactionError> {
        let candidates = merge.inputs();
        let above = candidates.iter().map(|candidate| candidate.mask_version).min().unwrap_or(0);
        if let Merge::Dropped { inputs } = &merge {
            let expired = inputs.iter().map(|input| input.rows).sum();
            return Ok((Merged { outputs: Vec::new(), dropped: 0, expired }, above));
        }
        let mut inputs = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            inputs.push(load(db, shard_no, merge.kind(), candidate).await?);
        }
        let left_out = self.left_out(db, shard_no, &inputs, above).await?;
        let mask_version = left_out.version;
        let (options, rows_min) = (self.write, self.options.segment_rows_min);
        let merged = tokio::task::spawn_blocking(move || match merge {
            Merge::Runs { to_segments, .. } => {
                merge::merge_runs(&inputs, &left_out, if to_segments { 0 } else { rows_min }, &options)
            }
            Merge::Segments { project_id, .. } => {
                merge::merge_segments(project_id, &inputs, &left_out, &options)
            }
            Merge::Dropped { .. } => unreachable!("it was dealt with above"),
        });
        Ok((merged.await?.map_err(CompactionError::Merge)?, mask_version))
    }
}

pub(super) fn parse_facts(object_id: ObjectId, bytes: &[u8]) -> Result<ObjectFacts, CompactionError> {
    ObjectFacts::from_bytes(bytes).map_err(|source| CompactionError::Unreadable { object_id, source })
}

/// Everything of an object but its filter.
pub(super) async fn load(
    db: &Db,
    shard_no: ShardNo,
    kind: ObjectKind,
    candidate: &Candidate,
) -> Result<Input, CompactionError> {
    let object_id = candidate.object_id;
    let facts = objects::find_facts(db, kind, shard_no, object_id).await?;
    let facts = parse_facts(object_id, &facts.ok_or(CompactionError::Overtaken)?)?;
    let mut part_nos = vec![HEADER_PART];
    part_nos.extend(HEADER_PART + 1 + facts.filter_parts..facts.parts);
    let parts = objects::find_parts_of(db, object_id, candidate.bytes, &part_nos).await?;
    let parts: PartSet = parts.ok_or(CompactionError::Overtaken)?.into_iter().collect();
    let opened = parts.get(HEADER_PART).and_then(|header| ObjectReader::open(header));
    let reader = opened.map_err(|source| CompactionError::Unreadable { object_id, source })?;
    Ok(Input { reader, parts, facts })
}

/// The closing transaction: all of it or nothing.
pub(super) async fn replace(
    db: &Db,
    lease: Lease,
    lease_ms: u64,
    kind: ObjectKind,
    (inputs, retired_at): (Vec<ObjectId>, Millis),
    outputs: Vec<Placement>,
) -> Result<(), CompactionError> {
    db.transaction_after(leases::enter(&lease, lease_ms), move |tx| {
        let (inputs, outputs) = (inputs.clone(), outputs.clone());
        Box::pin(async move {
            if !leases::is_held(tx, &lease).await? {
                return Err(CompactionError::Overtaken);
            }
            for kind in [ObjectKind::Run, ObjectKind::Segment] {
                let of_kind = outputs.iter().filter(|output| output.kind() == kind);
                let ids: Vec<ObjectId> = of_kind.map(|output| output.object_id).collect();
                if !objects::make_live(tx, kind, lease.shard_no, &ids).await? {
                    return Err(CompactionError::Overtaken);
                }
            }
            for &input in &inputs {
                if !objects::retire(tx, kind, lease.shard_no, input, retired_at).await? {
                    return Err(CompactionError::Overtaken);
                }
            }
            leases::leave(tx, &lease).await?;
            Ok(())
        })
    })
    .await
}
