//! Which columns an object has, in which order, and how each is encoded.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};

use super::header::ObjectKind;
use super::{FormatError, ids};
use crate::model::PropertyBytes;

/// The type of a property's value. The numbers are part of the format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PropertyKind {
    String,
    Integer,
    Float,
    Boolean,
    Json,
}

impl PropertyKind {
    pub const ALL: [Self; 5] = [Self::String, Self::Integer, Self::Float, Self::Boolean, Self::Json];

    pub fn of(value: PropertyBytes<'_>) -> Self {
        match value {
            PropertyBytes::String(_) => Self::String,
            PropertyBytes::Integer(_) => Self::Integer,
            PropertyBytes::Float(_) => Self::Float,
            PropertyBytes::Bool(_) => Self::Boolean,
            PropertyBytes::Json(_) => Self::Json,
        }
    }

    fn data_type(self, access: Access) -> DataType {
        match self {
            Self::String | Self::Json => access.text(),
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Boolean => DataType::Boolean,
        }
    }
}

/// The columns that every row has. Those that every question reads come first and share a part when
/// they are small.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fixed {
    PersonNo,
    OccurredAt,
    Event,
    IdNo,
    ReceivedAt,
    TimeSource,
    /// Version and variant of the id, where it is stored without them ([`super::ids`]).
    IdVersion,
    EventId,
    /// Runs only.
    ProjectId,
}

const SEGMENT_FIXED: [Fixed; 8] = [
    Fixed::PersonNo,
    Fixed::OccurredAt,
    Fixed::Event,
    Fixed::IdNo,
    Fixed::ReceivedAt,
    Fixed::TimeSource,
    Fixed::IdVersion,
    Fixed::EventId,
];
/// Times by event are none.
const SEGMENT_FIXED_TIMES_APART: [Fixed; 7] = [
    Fixed::PersonNo,
    Fixed::Event,
    Fixed::IdNo,
    Fixed::ReceivedAt,
    Fixed::TimeSource,
    Fixed::IdVersion,
    Fixed::EventId,
];
/// Before format version 4.
const SEGMENT_FIXED_WHOLE_IDS: [Fixed; 7] = [
    Fixed::PersonNo,
    Fixed::OccurredAt,
    Fixed::Event,
    Fixed::IdNo,
    Fixed::ReceivedAt,
    Fixed::TimeSource,
    Fixed::EventId,
];
const RUN_FIXED: [Fixed; 8] = [
    Fixed::PersonNo,
    Fixed::OccurredAt,
    Fixed::Event,
    Fixed::IdNo,
    Fixed::ReceivedAt,
    Fixed::TimeSource,
    Fixed::EventId,
    Fixed::ProjectId,
];

impl Fixed {
    fn name(self) -> &'static str {
        match self {
            Self::PersonNo => "person_no",
            Self::OccurredAt => "occurred_at",
            Self::Event => "event",
            Self::IdNo => "id_no",
            Self::ReceivedAt => "received_at",
            Self::TimeSource => "time_source",
            Self::IdVersion => "id_version",
            Self::EventId => "event_id",
            Self::ProjectId => "project_id",
        }
    }

    fn data_type(self, layout: &Layout, access: Access) -> DataType {
        match self {
            Self::PersonNo | Self::IdNo | Self::ProjectId => DataType::UInt32,
            Self::OccurredAt | Self::ReceivedAt => DataType::Int64,
            Self::Event => access.text(),
            Self::TimeSource | Self::IdVersion => DataType::UInt8,
            Self::EventId => DataType::FixedSizeBinary(layout.id_bytes() as i32),
        }
    }
}

/// Text is written as text, and read as codes into a dictionary.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    Read,
}

impl Access {
    fn text(self) -> DataType {
        match self {
            Self::Write => DataType::Utf8,
            Self::Read => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        }
    }
}

/// All columns of an object in the order of the file: fixed ones, one per (property, type) sorted by
/// name and type, and the JSON column with the properties that have no column of their own.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub kind: ObjectKind,
    pub properties: Vec<(String, PropertyKind)>,
    /// Whether `received_at` holds the time since `occurred_at`: small numbers for events that came
    /// as they happened, while the time itself is the smaller one for an import of old events.
    pub received_as_delay: bool,
    /// Whether ids are stored as [`super::ids`] says: in segments since format version 4.
    pub short_ids: bool,
    /// Whether times lie as [`super::times`] says; only where ids are short.
    pub times_by_event: bool,
}

impl Layout {
    pub fn fixed(&self) -> &'static [Fixed] {
        match (self.kind, self.short_ids) {
            (ObjectKind::Run, _) => &RUN_FIXED,
            (ObjectKind::Segment, true) if self.times_by_event => &SEGMENT_FIXED_TIMES_APART,
            (ObjectKind::Segment, true) => &SEGMENT_FIXED,
            (ObjectKind::Segment, false) => &SEGMENT_FIXED_WHOLE_IDS,
        }
    }

    /// Of what the column of ids has of each.
    pub fn id_bytes(&self) -> usize {
        ids::stored_bytes(self.short_ids)
    }

    pub fn fixed_index(&self, column: Fixed) -> Result<usize, FormatError> {
        let index = self.fixed().iter().position(|&c| c == column);
        index.ok_or_else(|| FormatError::corrupt(format!("no column {}", column.name())))
    }

    pub fn property_index(&self, property: usize) -> usize {
        self.fixed().len() + property
    }

    pub fn rest_index(&self) -> usize {
        self.fixed().len() + self.properties.len()
    }

    pub fn len(&self) -> usize {
        self.rest_index() + 1
    }

    /// Of which type a column is, if it is of a property or of the events, which are texts.
    pub fn kind_of(&self, index: usize) -> Option<PropertyKind> {
        match index.checked_sub(self.fixed().len()) {
            None => (self.fixed()[index] == Fixed::Event).then_some(PropertyKind::String),
            Some(property) => self.properties.get(property).map(|(_, kind)| *kind),
        }
    }

    /// The indices of a property's own columns, at most one per type.
    pub fn columns_of(&self, name: &str) -> impl Iterator<Item = (PropertyKind, usize)> + use<'_> {
        let first = self.properties.partition_point(|(n, _)| n.as_str() < name);
        let owned = name.to_owned();
        let same = self.properties[first..].iter().take_while(move |(n, _)| *n == owned);
        same.enumerate().map(move |(n, (_, kind))| (*kind, self.property_index(first + n)))
    }

    /// Column names are for people who look into a file with other tools; readers go by position.
    pub fn schema(&self, access: Access) -> Arc<Schema> {
        let mut fields = Vec::with_capacity(self.len());
        for column in self.fixed() {
            fields.push(Field::new(column.name(), column.data_type(self, access), false));
        }
        for (name, kind) in &self.properties {
            fields.push(Field::new(property_column(name, *kind), kind.data_type(access), true));
        }
        fields.push(Field::new(REST, DataType::Utf8, true));
        Arc::new(Schema::new(fields))
    }

    pub fn writer_properties(
        &self,
        page_rows: usize,
        zstd_level: i32,
    ) -> Result<WriterProperties, FormatError> {
        let zstd = Compression::ZSTD(ZstdLevel::try_new(zstd_level)?);
        let mut properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_created_by("weir".to_owned())
            .set_compression(zstd)
            .set_data_page_v2_compression_ratio_threshold(PACKED_RATIO_MAX)
            .set_max_row_group_row_count(None)
            // The rows alone decide where a page ends, so that all columns are cut alike.
            .set_write_batch_size(page_rows)
            .set_data_page_row_count_limit(page_rows)
            .set_data_page_size_limit(usize::MAX)
            // Far above Parquet's usual 1 MiB: codes decode at once, while a column that gave up its
            // dictionary has to be hashed again by every reader.
            .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
            // The catalogue has the facts that a scan prunes by.
            .set_statistics_enabled(EnabledStatistics::None);
        for column in self.fixed() {
            properties = fixed_encoding(properties, *column);
        }
        for (name, kind) in &self.properties {
            let path = ColumnPath::new(vec![property_column(name, *kind)]);
            properties = match kind {
                PropertyKind::Integer => few_integers(properties, path),
                PropertyKind::Float => properties
                    .set_column_dictionary_page_size_limit(path.clone(), FLOAT_DICTIONARY_BYTES_MAX)
                    .set_column_encoding(path, Encoding::PLAIN),
                PropertyKind::String | PropertyKind::Json => {
                    properties.set_column_encoding(path, Encoding::PLAIN)
                }
                PropertyKind::Boolean => properties.set_column_dictionary_enabled(path, false),
            };
        }
        let rest = ColumnPath::new(vec![REST.to_owned()]);
        Ok(properties
            .set_column_dictionary_enabled(rest.clone(), false)
            .set_column_encoding(rest, Encoding::PLAIN)
            .build())
    }
}

/// A page that zstd makes no smaller than this part is left as it is. Codes of texts that are all but random it
/// makes a hundredth smaller, and inflating these was a sixth of a breakdown by thousands of texts.
const PACKED_RATIO_MAX: f64 = 0.9;
const DICTIONARY_BYTES_MAX: usize = 4 << 20;
/// 8,192 integers: with more of them, codes take as much as the differences do.
const INTEGER_DICTIONARY_BYTES_MAX: usize = 64 << 10;
/// 65,536 prices.
const FLOAT_DICTIONARY_BYTES_MAX: usize = 512 << 10;
const REST: &str = "properties";

fn property_column(name: &str, kind: PropertyKind) -> String {
    let prefix = match kind {
        PropertyKind::String => "string",
        PropertyKind::Integer => "integer",
        PropertyKind::Float => "float",
        PropertyKind::Boolean => "boolean",
        PropertyKind::Json => "json",
    };
    format!("{prefix}:{name}")
}

/// A dictionary while it is small, differences afterwards.
fn few_integers(properties: WriterPropertiesBuilder, path: ColumnPath) -> WriterPropertiesBuilder {
    properties
        .set_column_dictionary_page_size_limit(path.clone(), INTEGER_DICTIONARY_BYTES_MAX)
        .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
}

fn fixed_encoding(properties: WriterPropertiesBuilder, column: Fixed) -> WriterPropertiesBuilder {
    let path = ColumnPath::new(vec![column.name().to_owned()]);
    match column {
        Fixed::PersonNo | Fixed::IdNo => properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
        // Most questions read times, and inflating what zstd makes a hundredth smaller took longer than all else
        // that is done to decode them.
        Fixed::OccurredAt => properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED)
            .set_column_compression(path, Compression::UNCOMPRESSED),
        // Events that came in one request share it.
        Fixed::ReceivedAt => few_integers(properties, path),
        Fixed::Event | Fixed::TimeSource | Fixed::IdVersion | Fixed::ProjectId => properties,
        // Random bytes: compressing them costs time and gains nothing.
        Fixed::EventId => properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), Encoding::PLAIN)
            .set_column_compression(path, Compression::UNCOMPRESSED),
    }
}
