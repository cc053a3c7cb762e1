//! What can be wrong with an object's bytes, or with the rows that should become one.

#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The caller did not fetch it, or it has been deleted: list the objects again.
    #[error("part {part_no} is missing")]
    MissingPart { part_no: u32 },
    /// Written by a newer weir.
    #[error("format version {0} is not known to this version of weir")]
    UnknownVersion(u8),
    #[error("the object is unreadable: {0}")]
    Corrupt(String),
    #[error("the object is unreadable")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Rows must come in the order of the object's sort key, and of one project in a segment.
    #[error("row {row} does not follow the one before it")]
    OutOfOrder { row: u64 },
    #[error("an object without rows")]
    Empty,
    #[error("{0} is not a finite number")]
    NotFinite(f64),
}

impl FormatError {
    pub(super) fn corrupt(detail: impl Into<String>) -> Self {
        Self::Corrupt(detail.into())
    }
}

impl From<arrow_schema::ArrowError> for FormatError {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Self::Parquet(error.into())
    }
}
