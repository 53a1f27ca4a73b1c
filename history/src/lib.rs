#![doc = include_str!("docs.md")]
#![forbid(unsafe_code)]

mod check;
mod event;
mod line;
mod reader;
mod report;
mod writer;

pub use check::{Checker, CheckerOptions, ReadError, StreamId};
pub use event::{DedupScope, Event, Header, Role, Side, What};
pub use line::{LineError, VERSION};
pub use reader::{Line, Reader};
pub use report::{Example, GroupReport, Repeats, Report};
pub use writer::{Stamp, Writer};
