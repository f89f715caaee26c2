//! `apply`, `plan` and `run`: one flow, three doors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::args::{Common, Output, RunArgs};
use super::consent::{Consent, consent};
use super::error::CliError;
use super::interrupt::{self, GIVEN_UP};
use super::load::{self, Lab, Prepared};
use super::sources::{self, Loaded};
use super::{again, block_on, listing, saved};
use crate::event::{Event, Kind, Sink};
use crate::model::{Exit, HostName};
use crate::operation;
use crate::playbook::{self, Playbook};
use crate::runner::{PrimaryRule, Report, Runner, Selection};
use crate::step::Options;
use crate::syntax::Source;
use crate::topology;
use crate::ui::{HumanSink, JsonSink, Masked, Printer, Tee, Verbosity, event_json, plan_text};

/// What is done with the playbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Apply,
    Plan,
}

pub(super) fn apply(
    common: &Common,
    file: Option<PathBuf>,
    run: &RunArgs,
) -> Result<Exit, CliError> {
    if let Some(file) = &file
        && saved::is_saved_plan(file)
    {
        return apply_saved(common, file, run);
    }
    let extra = Extra { summary: true, ..Extra::of("apply") };
    go(common, run, prepare(common, file, run, Lab::Up)?, shipped()?, mode(run), extra)
}

pub(super) fn plan(
    common: &Common,
    file: Option<PathBuf>,
    run: &RunArgs,
    out: Option<&Path>,
) -> Result<Exit, CliError> {
    let extra = Extra { save: out.map(Path::to_owned), ..Extra::of("plan") };
    go(common, run, prepare(common, file, run, Lab::Find)?, shipped()?, Mode::Plan, extra)
}

/// `unregister NODE ...`: the shipped playbook, for nodes that are no longer declared.
pub(super) fn unregister(
    common: &Common,
    nodes: &[String],
    run: &RunArgs,
) -> Result<Exit, CliError> {
    let mut prepared = prepare(common, None, run, Lab::Find)?;
    let declared = |name: &&String| prepared.inventory.nodes.keys().any(|n| n.0 == **name);
    if let Some(name) = nodes.iter().find(declared) {
        let text = format!("{name} is in the inventory: the next apply would register it again");
        return Err(CliError::refused(text).hint("take it out of the inventory first"));
    }
    let gone = |name: &String| serde_json::json!({ "name": name, "slot": crate::inventory::slot_name(&crate::model::HostName(name.clone())) });
    let gone: crate::model::Value = nodes.iter().map(gone).collect();
    prepared.extra.vars.insert("gone".to_owned(), gone);
    let loaded = sources::playbook(Path::new("playbooks/unregister.yml"))?;
    go(common, run, prepared, loaded, mode(run), Extra::of("unregister"))
}

pub(super) fn run(common: &Common, playbook: &Path, run: &RunArgs) -> Result<Exit, CliError> {
    let lab = if lists(run) { Lab::Unneeded } else { Lab::Find };
    let prepared = load::prepare(common, None, lab)?;
    let loaded = sources::playbook(playbook)?;
    let name = playbook.file_name().unwrap_or_default().to_string_lossy();
    let extra = Extra {
        playbook_dir: playbook.parent().map(Path::to_owned),
        ..Extra::of(&format!("run {name}"))
    };
    go(common, run, prepared, loaded, mode(run), extra)
}

pub(super) fn mode(run: &RunArgs) -> Mode {
    if run.check { Mode::Plan } else { Mode::Apply }
}

fn lists(run: &RunArgs) -> bool {
    run.list_hosts || run.list_tasks
}

/// A read-only run makes no lab, and a listing needs none.
pub(super) fn prepare(
    common: &Common,
    file: Option<PathBuf>,
    run: &RunArgs,
    lab: Lab,
) -> Result<Prepared, CliError> {
    let lab = match lab {
        _ if lists(run) => Lab::Unneeded,
        Lab::Up if run.check => Lab::Find,
        other => other,
    };
    let prepared = load::prepare(common, file, lab)?;
    // An inventory of plain hosts is for `pgorch run`.
    if prepared.inventory.nodes.is_empty() {
        return Err(CliError::usage("the inventory has no nodes, so there is no cluster to make")
            .hint("add \"nodes:\", or use `pgorch run PLAYBOOK` on its hosts"));
    }
    Ok(prepared)
}

/// The playbook of `apply`; the working directory may have its own.
fn shipped() -> Result<Loaded, CliError> {
    let loaded = sources::playbook(Path::new("playbooks/apply.yml"))?;
    let own = |(name, source): (&String, &Arc<Source>)| {
        let differs = playbook::shipped(name).is_none_or(|text| text != source.text);
        differs.then(|| name.clone())
    };
    let own: Vec<String> = loaded.texts.iter().filter_map(own).collect();
    if !own.is_empty() {
        let names = own.join(", ");
        Printer.err(&format!("note: not as shipped, from the working directory: {names}\n"));
    }
    Ok(loaded)
}

fn apply_saved(common: &Common, file: &Path, run: &RunArgs) -> Result<Exit, CliError> {
    let plan = saved::read(file)?;
    let (common, run) = plan.options(common, run)?;
    plan.check_inputs()?;
    let inventory = PathBuf::from(&plan.inventory);
    let prepared = load::prepare(&common, Some(inventory), Lab::Find)?;
    let loaded = shipped()?;
    plan.check_sources(&prepared, &loaded)?;
    let extra = Extra { summary: true, saved: Some(plan), ..Extra::of("apply") };
    go(&common, &run, prepared, loaded, mode(&run), extra)
}

/// What differs between the doors.
#[derive(Default)]
pub(super) struct Extra {
    command: String,
    /// End with the topology and a URI.
    summary: bool,
    /// Who may be taken for the primary.
    pub(super) primary: PrimaryRule,
    /// It is for standbys: refused where the primary is among the hosts.
    pub(super) standbys_only: bool,
    /// Restarting is what the command is for.
    pub(super) restart: bool,
    /// What would be refused on any of the hosts is refused before any is touched.
    pub(super) all_or_nothing: bool,
    save: Option<PathBuf>,
    saved: Option<saved::SavedPlan>,
    playbook_dir: Option<PathBuf>,
    inputs: Option<saved::Inputs>,
}

impl Extra {
    pub(super) fn of(command: &str) -> Self {
        Extra { command: command.to_owned(), ..Extra::default() }
    }

    /// For a command on single nodes.
    pub(super) fn of_nodes(command: &str) -> Self {
        Extra { all_or_nothing: true, ..Extra::of(command) }
    }
}

/// Lets events through only while it is open: a pass that only asks is not told.
pub(super) struct Gate {
    pub(super) open: AtomicBool,
    inner: Arc<dyn Sink>,
}

impl Sink for Gate {
    fn emit(&self, event: &Event) {
        if self.open.load(Ordering::Relaxed) {
            self.inner.emit(event);
        }
    }
}

pub(super) fn go(
    common: &Common,
    run: &RunArgs,
    prepared: Prepared,
    loaded: Loaded,
    mode: Mode,
    mut extra: Extra,
) -> Result<Exit, CliError> {
    if run.list_hosts {
        return listing::hosts(&prepared, &loaded.playbook);
    }
    listing::check_patterns(&prepared.inventory, &loaded.playbook)?;
    let choice = listing::choice(&loaded.playbook, run)?;
    if run.list_tasks {
        return Ok(listing::tasks(&loaded.playbook, &choice));
    }
    if extra.save.is_some() {
        extra.inputs = Some(saved::Inputs::of(&prepared, &loaded)?);
    }
    let select = Selection { hosts: prepared.hosts().to_vec(), choice, forks: common.forks };
    block_on(execute(common, run, prepared, loaded.playbook, select, mode, extra))?
}

async fn execute(
    common: &Common,
    run: &RunArgs,
    prepared: Prepared,
    playbook: Playbook,
    select: Selection,
    mode: Mode,
    extra: Extra,
) -> Result<Exit, CliError> {
    let gate =
        Arc::new(Gate { open: AtomicBool::new(true), inner: sinks(common, run, &prepared, mode) });
    let cluster = prepared.inventory.cluster.clone();
    let hosts = select.hosts.len();
    let sink: Arc<dyn Sink> = gate.clone();
    let roots = file_roots(&extra, &prepared);
    let runner =
        prepared.runner(playbook, select, sink, interrupt::listen(), roots, common).await?;
    let command = if mode == Mode::Plan { "plan".to_owned() } else { extra.command.clone() };
    runner.sink.emit(&Event::run(Kind::RunStarted { command, hosts }, cluster));
    let options = Options {
        restart: run.restart || extra.restart,
        check: mode == Mode::Plan,
        destroy: run.destroy.clone(),
        left_out: runner.left_out(),
    };
    runner.first_batch(&options).await;
    if runner.interrupted() {
        return Ok(stopped(common, &runner));
    }
    if mode == Mode::Apply
        && let Some((node, open)) = runner.open_operation()
    {
        let why = format!(
            "the {} to {} of {} ({}) is not over on {node}",
            open.kind, open.candidate, open.controller, open.started
        );
        let way = operation::way_out(&runner.snapshot(), &open);
        let hint = format!("if its controller is gone: {way}");
        return Ok(refuse(common, mode, &runner, Exit::Refused, ["operation_open", &why, &hint]));
    }
    let starts = matches!(extra.primary, PrimaryRule::Start { .. });
    if (starts || runner.needs_primary())
        && let Err(refusal) = runner.resolve_primary(&extra.primary)
    {
        return Ok(refused(common, mode, &runner, &refusal));
    }
    let primary = runner.live().primary.clone().filter(|p| runner.select.hosts.contains(p));
    if let Some(primary) = primary.filter(|_| extra.standbys_only) {
        return Ok(is_primary(common, mode, &runner, &primary));
    }
    if let Some(saved) = &extra.saved {
        gate.open.store(false, Ordering::Relaxed);
        let report = runner.pass(&Options { check: true, ..options.clone() }).await;
        gate.open.store(true, Ordering::Relaxed);
        if let Err(why) = saved.check(&runner, &report).await {
            return Ok(stale(common, mode, &runner, why));
        }
    }
    if mode == Mode::Plan {
        gate.open.store(false, Ordering::Relaxed);
        let report = runner.pass(&options).await;
        return finish_plan(common, run, &runner, &report, &extra).await;
    }
    if extra.all_or_nothing && refuses(&runner, &options, &gate).await {
        return Ok(ended(&runner, Exit::Refused));
    }
    let options = match consent(common, &runner, &options, &gate, extra.saved.is_some()).await {
        Consent::Go(options) => options,
        Consent::Stop(exit) => return Ok(exit),
    };
    let Some(report) = unless_interrupted(&runner, GIVEN_UP, runner.pass(&options)).await else {
        return Ok(stopped(common, &runner));
    };
    let exit = report.exit.unwrap_or(Exit::Done);
    tell_end(common, &runner, &report, exit, &extra).await;
    Ok(exit)
}

/// Whether a step would refuse, as far as can be seen before anything is touched; each is told.
async fn refuses(runner: &Runner, options: &Options, gate: &Gate) -> bool {
    gate.open.store(false, Ordering::Relaxed);
    let report = runner.pass(&Options { check: true, ..options.clone() }).await;
    gate.open.store(true, Ordering::Relaxed);
    let mut refused: Vec<_> = report.problems.into_iter().filter(|p| p.refused).collect();
    // What is so of several together is told once.
    let mut told = BTreeSet::new();
    refused.retain(|p| told.insert(p.message.clone()));
    for problem in &refused {
        let kind = Kind::Refused { code: "precondition".to_owned(), hint: problem.hint.clone() };
        runner.sink.emit(&Event::run(kind, problem.message.clone()));
    }
    !refused.is_empty()
}

/// Where relative paths of files are looked for: as Ansible does beside the playbook first.
fn file_roots(extra: &Extra, prepared: &Prepared) -> Vec<PathBuf> {
    let beside = |dir: &PathBuf| [dir.clone(), dir.join("files"), dir.join("templates")];
    let own = extra.playbook_dir.iter().flat_map(beside);
    own.chain(prepared.file_roots.clone()).collect()
}

fn sinks(common: &Common, run: &RunArgs, prepared: &Prepared, mode: Mode) -> Arc<dyn Sink> {
    let verbosity = load::verbosity(common);
    let mut all: Vec<Arc<dyn Sink>> = Vec::new();
    if mode == Mode::Apply {
        all.extend(prepared.journal());
    }
    match common.output {
        Output::Json if mode == Mode::Apply => {
            all.push(Arc::new(JsonSink { run: prepared.run.clone() }));
        }
        // The document is data; all else is told as ever.
        _ => {
            all.push(Arc::new(HumanSink::new(verbosity, run.diff || verbosity > Verbosity::Normal)))
        }
    }
    let redactor = prepared.redactor.clone();
    Arc::new(Masked { redactor, inner: Arc::new(Tee(all)) })
}

fn refused(common: &Common, mode: Mode, runner: &Runner, refusal: &topology::Bootstrap) -> Exit {
    let topology::Bootstrap::Refuse { code, reason, hint } = refusal else {
        return Exit::Refused;
    };
    let unknown =
        |o: &crate::facts::Observation| matches!(o, crate::facts::Observation::Unknown { .. });
    let unreachable = runner.snapshot().nodes.values().any(unknown);
    let exit = if unreachable { Exit::Unreachable } else { Exit::Refused };
    refuse(common, mode, runner, exit, [code, reason, hint])
}

/// A command for standbys that was given the primary.
fn is_primary(common: &Common, mode: Mode, runner: &Runner, primary: &HostName) -> Exit {
    let why = format!("{primary} is the primary");
    let hint = "pgorch switchover --to NODE makes another node the primary, and this one follows";
    refuse(common, mode, runner, Exit::Refused, ["is_the_primary", &why, hint])
}

/// A saved plan that is not what would happen now.
fn stale(common: &Common, mode: Mode, runner: &Runner, why: String) -> Exit {
    let why = runner.vars.redactor.mask(&why);
    let hint = "make a new plan with `pgorch plan --out FILE`";
    refuse(common, mode, runner, Exit::Refused, ["plan_stale", &why, hint])
}

/// Tells that the run is refused: code, reason and hint.
fn refuse(
    common: &Common,
    mode: Mode,
    runner: &Runner,
    exit: Exit,
    [code, reason, hint]: [&str; 3],
) -> Exit {
    let kind = Kind::Refused { code: code.to_owned(), hint: Some(hint.to_owned()) };
    runner.sink.emit(&Event::run(kind, reason));
    ended(runner, exit);
    if mode == Mode::Plan && common.output == Output::Json {
        let mut document = saved::plan_document(runner, &Report::default(), exit);
        document["refused"] = serde_json::json!({ "code": code, "message": reason, "hint": hint });
        print_document(runner, &document);
    }
    exit
}

/// Tells the end of a run that did nothing.
pub(super) fn ended(runner: &Runner, exit: Exit) -> Exit {
    runner.sink.emit(&Event::run(Kind::RunDone { exit }, ""));
    exit
}

fn print_document(runner: &Runner, document: &crate::model::Value) {
    let masked = runner.vars.redactor.mask_value(document);
    Printer.out(&format!("{}\n", serde_json::to_string_pretty(&masked).unwrap_or_default()));
}

async fn finish_plan(
    common: &Common,
    run: &RunArgs,
    runner: &Runner,
    report: &Report,
    extra: &Extra,
) -> Result<Exit, CliError> {
    if runner.interrupted() {
        return Ok(stopped(common, runner));
    }
    let redactor = &runner.vars.redactor;
    let exit = report.exit.unwrap_or(Exit::Done);
    if common.output == Output::Json {
        print_document(runner, &saved::plan_document(runner, report, exit));
    } else {
        Printer.out(&redactor.mask(&plan_text(report)));
        for (host, notice) in &report.notices {
            Printer.out(&redactor.mask(&format!("note  {host}  {notice}\n")));
        }
    }
    if let (Some(path), Some(inputs)) = (&extra.save, &extra.inputs) {
        let shown = path.display();
        if !matches!(exit, Exit::Done | Exit::ChangesPending) {
            Printer
                .err(&format!("{shown} is not written: a plan that is not whole is not saved\n"));
            return Ok(exit);
        }
        saved::SavedPlan::new(common, run, runner, report, inputs).await?.write(path)?;
        Printer.err(&format!("saved; `pgorch apply {shown}` does exactly this, or refuses\n"));
    }
    Ok(exit)
}

/// `None` when the user has pressed Ctrl-C `count` times before the end: the rest is dropped.
async fn unless_interrupted<T>(
    runner: &Runner,
    count: u8,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut interrupt = runner.interrupt.clone();
    let pressed = async {
        if interrupt.wait_for(|n| *n >= count).await.is_err() {
            // Nobody listens for signals any more.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        done = work => Some(done),
        () = pressed => None,
    }
}

/// The end of a run that was dropped: commands that could not be stopped go on on their hosts, as
/// they do when a connection is lost, and the next run looks at what they did.
fn stopped(common: &Common, runner: &Runner) -> Exit {
    tell_stopped(common, runner);
    runner.sink.emit(&Event::run(Kind::RunDone { exit: Exit::Interrupted }, ""));
    Exit::Interrupted
}

fn tell_stopped(common: &Common, runner: &Runner) {
    for (host, text) in runner.stopped_at() {
        runner.sink.emit(&Event::host(&host, Kind::Notice, text));
    }
    if common.output == Output::Human {
        Printer.err(&again::to_continue());
    }
}

async fn tell_end(common: &Common, runner: &Runner, report: &Report, exit: Exit, extra: &Extra) {
    for (host, notice) in &report.notices {
        runner.sink.emit(&Event::host(host, Kind::Notice, notice.clone()));
    }
    let human = common.output == Output::Human;
    if extra.summary && human && exit != Exit::Interrupted {
        runner.gather_again().await;
        let status = runner.status();
        Printer.out(&format!("\n{}", topology::human(&status)));
        if let Some(uri) = topology::psql_uri(&runner.vars.inventory, &status) {
            Printer.out(&format!("\npsql '{uri}'\n"));
        }
    }
    if exit == Exit::Interrupted {
        tell_stopped(common, runner);
    }
    runner.sink.emit(&Event::run(Kind::RunDone { exit }, ""));
    if human && matches!(exit, Exit::Failed | Exit::Unreachable) {
        Printer.err(&again::to_continue());
    }
}

/// Used by the journal too.
pub(super) fn journal_line(event: &Event, time: &str, run: &str) -> crate::model::Value {
    event_json(event, time, run)
}
