//! PostgreSQL as text: what its files, settings and statements look like, and how they compare.
//!
//! Pure. Nothing here connects to a server or opens a file; every statement that pgorch can send
//! is a named function of [`sql`].

mod conf;
mod conninfo;
mod hba;
mod pgpass;
mod scram;
mod setting;
pub mod sql;
mod sync_names;
mod text;
mod version;

pub use conf::{Conf, ConfChange, ConfEntry, conf_line, diff_conf};
pub use conninfo::{BadConninfo, Conninfo};
pub use hba::{HbaChange, HbaLine, HbaRule, diff_hba, hba_name, hba_rules, parse_hba, render_hba};
pub use pgpass::{PassLine, parse_pass_line, pass_line};
pub use scram::{SCRAM_ITERATIONS, scram_matches, scram_verifier};
pub use setting::{Setting, same_value, valid_value};
pub use sync_names::SyncNames;
pub use text::{conf_value, ident, literal};
pub use version::{Feature, Gone, major_of, publishes_sync_names, unknown_parameter};
