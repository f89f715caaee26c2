//! The command line: the only place where everything is wired together. One file per subcommand.

mod again;
mod apply;
mod args;
mod check;
mod consent;
mod error;
mod events;
mod exec;
mod explain;
mod extra;
mod failover;
mod init;
mod interrupt;
mod lab;
mod listing;
mod load;
mod meta;
mod nodes;
mod pause;
mod saved;
mod secrets;
mod sources;
mod status;
mod switchover;
mod trust;
mod watch;
mod watch_unit;

use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Cli, Command, Later, Output};
use self::error::CliError;
use crate::model::Exit;
use crate::ui::Printer;

/// Runs the program with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage.code() } else { 0 });
        }
    };
    let exit = match dispatch(cli) {
        Ok(exit) => exit.code(),
        Err(Failure::Error(error)) => {
            Printer.err(&error.text());
            error.exit.code()
        }
        Err(Failure::Code(code)) => code,
    };
    ExitCode::from(exit)
}

/// Whether these arguments (without the program's name) would be understood; for tests of texts
/// that show commands.
///
/// # Errors
/// What clap says about them.
pub fn check_arguments(arguments: &[&str]) -> Result<(), String> {
    let all = std::iter::once("pgorch").chain(arguments.iter().copied());
    match Cli::try_parse_from(all) {
        Ok(_) => Ok(()),
        Err(error) if error.use_stderr() => Err(error.to_string()),
        Err(_) => Ok(()),
    }
}

/// How a command ends that does not end well.
enum Failure {
    Error(CliError),
    /// A Nagios plugin's own code.
    Code(u8),
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        Failure::Error(error)
    }
}

fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let Cli { common, command } = cli;
    if matches!(common.output, Output::Junit | Output::Github) {
        return Err(CliError::usage("-o junit and -o github are not built yet").into());
    }
    let exit = match command {
        Command::Apply { file, run } => apply::apply(&common, file, &run)?,
        Command::Unregister { nodes, run } => apply::unregister(&common, &nodes, &run)?,
        Command::Register { nodes, run } => nodes::register(&common, nodes, &run)?,
        Command::Rejoin { nodes, method, discard_old, run } => {
            nodes::rejoin(&common, nodes, method, discard_old, &run)?
        }
        Command::Clone { nodes, from, max_rate, run } => {
            nodes::clone(&common, nodes, from, max_rate, &run)?
        }
        Command::Follow { node, upstream, run } => nodes::follow(&common, node, upstream, &run)?,
        Command::Restart { nodes, force, switchover, run } => {
            nodes::restart(&common, nodes, force, switchover, &run)?
        }
        Command::Reload { nodes, run } => nodes::reload(&common, nodes, &run)?,
        Command::Stop { nodes, primary, run } => nodes::stop(&common, nodes, primary, &run)?,
        Command::Start { nodes, all, run } => nodes::start(&common, nodes, all, &run)?,
        Command::Plan { file, run, out } => apply::plan(&common, file, &run, out.as_deref())?,
        Command::Run { playbook, run } => apply::run(&common, &playbook, &run)?,
        Command::Status { check } => return status::status(&common, check),
        Command::Switchover(args) => switchover::switchover(&common, &args)?,
        Command::Failover(args) => failover::failover(&common, &args)?,
        Command::Promote { node, failover } => {
            let args = args::FailoverArgs { to: Some(node), ..failover };
            failover::failover(&common, &args)?
        }
        Command::Resume { id } => switchover::resume(&common, id.as_deref())?,
        Command::Watch { print_unit: true, .. } => watch_unit::print(&common)?,
        Command::Watch { dry_run, take_over, .. } => watch::watch(&common, dry_run, take_over)?,
        Command::Pause { r#for, reason } => pause::pause(&common, r#for.as_deref(), reason)?,
        Command::Unpause => pause::unpause(&common)?,
        Command::Ack => pause::acknowledge(&common)?,
        Command::Exec { argv } => exec::exec(&common, &argv)?,
        Command::Facts => status::facts(&common)?,
        Command::Events { follow, lines } => events::events(&common, follow, lines)?,
        Command::Check { file, playbook, hosts } => check::check(&common, file, &playbook, hosts)?,
        Command::Explain { code } => explain::explain(code.as_deref())?,
        Command::Trust { hosts } => trust::trust(&common, &hosts)?,
        Command::Lab(command) => lab::lab(&common, command)?,
        Command::Init { file, cluster, nodes, pg_version, force } => {
            init::init(&common, &init::Wanted { file, cluster, nodes, pg_version, force })?
        }
        Command::Completions { shell } => meta::completions(shell),
        Command::Schema { of } => meta::schema(of),
        Command::Man => meta::man()?,
        Command::Playbooks { dir } => meta::playbooks(dir.as_deref())?,
        Command::Later(later) => return Err(not_built(&later).into()),
    };
    Ok(exit)
}

fn not_built(later: &Later) -> CliError {
    let text = format!("{later:?}").to_lowercase();
    let name = text.split('(').next().unwrap_or_default();
    CliError::usage(format!("`pgorch {name}` is not built yet"))
        .hint("roles change by hand: `pgorch switchover`, `pgorch failover`")
}

/// An async runtime for one command: two workers are enough, the work is waiting.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| CliError::failed(format!("cannot start the async runtime: {e}")))?;
    let value = runtime.block_on(future);
    // Tasks of connections may still wait for a dead host; they end with the process.
    runtime.shutdown_background();
    Ok(value)
}
