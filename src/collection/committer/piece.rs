//! A request's events on their way into batches.

use crate::model::ShardNo;

/// Where a piece is full. Far below the size of a statement, so that pieces of many requests fit one.
const PIECE_BYTES: usize = 512 * 1024;

/// Records of one request for one shard.
#[derive(Clone, Debug)]
pub struct Piece {
    pub shard_no: ShardNo,
    pub events: u32,
    /// One after the other, as `storage::batch` encodes them.
    pub records: Vec<u8>,
}

/// The pieces of a request while its events are read.
#[derive(Default)]
pub struct Pieces {
    /// Those being filled, at most one for each shard.
    open: Vec<Piece>,
    full: Vec<Piece>,
    bytes: usize,
}

impl Pieces {
    /// Adds an event for a shard: `encode` appends its record.
    pub fn push(&mut self, shard_no: ShardNo, encode: impl FnOnce(&mut Vec<u8>)) {
        // A request touches few shards, and the one looked for is often the last one used.
        let at = match self.open.iter().rposition(|piece| piece.shard_no == shard_no) {
            Some(at) => at,
            None => {
                self.open.push(Piece { shard_no, events: 0, records: Vec::new() });
                self.open.len() - 1
            }
        };
        let piece = &mut self.open[at];
        let before = piece.records.len();
        encode(&mut piece.records);
        piece.events += 1;
        self.bytes += piece.records.len() - before;
        if piece.records.len() >= PIECE_BYTES {
            let full = self.open.swap_remove(at);
            self.full.push(full);
        }
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn into_vec(mut self) -> Vec<Piece> {
        self.full.append(&mut self.open);
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_gather_by_shard_and_large_pieces_are_cut() {
        let mut pieces = Pieces::default();
        for n in 0..5_u16 {
            pieces.push(ShardNo(n % 2), |records| records.extend([n as u8; 200_000]));
        }
        assert_eq!(pieces.bytes(), 1_000_000);
        let mut shown: Vec<_> =
            pieces.into_vec().iter().map(|p| (p.shard_no.0, p.events, p.records.len())).collect();
        shown.sort_unstable();
        assert_eq!(shown, [(0, 3, 600_000), (1, 2, 400_000)]);
    }
}
