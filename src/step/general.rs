//! The list of kinds that know nothing of PostgreSQL.

use super::Kind;
use super::{
    accounts, commands, copies, fetch, files, keys, lines, local, packages, reads, repository,
    sudoers, sysctl, system, unarchive, units, waits,
};

/// The general kinds, in the manual's order.
pub(super) const GENERAL: &[&Kind] = &[
    &packages::PACKAGE,
    &repository::REPOSITORY,
    &files::FILE,
    &files::DIRECTORY,
    &copies::COPY,
    &copies::TEMPLATE,
    &lines::LINE,
    &lines::BLOCKINFILE,
    &lines::REPLACE,
    &accounts::USER,
    &accounts::GROUP,
    &keys::AUTHORIZED_KEY,
    &sudoers::SUDOERS,
    &units::SYSTEMD_UNIT,
    &units::SERVICE,
    &commands::COMMAND,
    &commands::SHELL,
    &fetch::GET_URL,
    &unarchive::UNARCHIVE,
    &sysctl::SYSCTL,
    &system::HOSTNAME,
    &system::TIMEZONE,
    &system::LOCALE_GEN,
    &reads::STAT,
    &reads::SLURP,
    &waits::WAIT_FOR,
    &waits::PAUSE,
    &local::ASSERT,
    &local::FAIL,
    &local::DEBUG,
    &local::SET_FACT,
    &local::META,
];
