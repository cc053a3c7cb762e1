//! What commands print. `println!` panics when nobody reads any more (`weir doctor | head -1`);
//! these end the command instead, without a word.

use std::fmt;
use std::io::{self, Write};

/// The reader of the output had enough.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub struct ReaderGone;

/// A line for whoever called the command.
pub fn line(text: fmt::Arguments<'_>) -> anyhow::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        written => Ok(written?),
    }
}

/// A line beside the output. Whether somebody reads it changes nothing.
pub fn remark(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// `println!` that ends the command when nobody reads any more.
macro_rules! say {
    ($($text:tt)*) => { $crate::commands::output::line(format_args!($($text)*))? };
}
pub(super) use say;
