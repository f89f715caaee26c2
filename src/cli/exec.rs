//! `exec`: one command on many hosts, at once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use super::args::{Common, Output};
use super::error::CliError;
use super::{block_on, interrupt, load};
use crate::clock;
use crate::event::{Detail, Event, Kind, Sink, Status};
use crate::model::{Exit, HostName, Script, Value};
use crate::runner::{Link, LinkError};
use crate::ui::{JsonSink, Masked, Printer};

/// Default deadline of the command on each host (`--timeout` is about connecting).
const DEADLINE: Duration = Duration::from_secs(3600);

pub(super) fn exec(common: &Common, argv: &[String]) -> Result<Exit, CliError> {
    let mut exit = Exit::Done;
    for path in load::find_all(common)? {
        exit = exit.worst(on_inventory(&load::with_inventory(common, &path), &path, argv)?);
        if exit == Exit::Interrupted {
            break;
        }
    }
    Ok(exit)
}

fn on_inventory(common: &Common, path: &Path, argv: &[String]) -> Result<Exit, CliError> {
    let prepared = load::prepare_to_look(common, Some(path.to_owned()))?;
    let script = Script::argv(argv);
    let inner: Arc<dyn Sink> = match common.output {
        Output::Json => Arc::new(JsonSink { run: prepared.run.clone() }),
        _ => Arc::new(Rows),
    };
    let sink = Masked { redactor: prepared.redactor.clone(), inner };
    block_on(async move {
        let mut links = prepared.login_links(common).await?;
        let interrupt = interrupt::listen();
        links.values_mut().for_each(|link| link.heed(interrupt.clone()));
        let kind = Kind::RunStarted { command: "exec".to_owned(), hosts: links.len() };
        sink.emit(&Event::run(kind, prepared.inventory.cluster.clone()));
        let forks = if common.forks == 0 { links.len().max(1) } else { common.forks };
        let mut ends = stream::iter(links)
            .map(|(name, link)| on_host(name, link, &script, &sink))
            .buffer_unordered(forks);
        let mut exit = Exit::Done;
        while let Some(end) = ends.next().await {
            exit = exit.worst(end);
        }
        if *interrupt.borrow() > 0 {
            exit = Exit::Interrupted;
        }
        sink.emit(&Event::run(Kind::RunDone { exit }, ""));
        Ok(exit)
    })?
}

/// Runs it on one host and tells the end at once: others may take longer.
async fn on_host(name: HostName, mut link: Link, script: &Script, sink: &Masked) -> Exit {
    let started = clock::now();
    let answer = link.command(script, None, DEADLINE, &mut |_| {}).await;
    let seconds = clock::now().since(started).as_secs_f64();
    let (event, exit) = told(&name, answer, seconds);
    sink.emit(&event);
    exit
}

fn told(
    name: &HostName,
    answer: Result<(i32, String, String), LinkError>,
    seconds: f64,
) -> (Event, Exit) {
    let done =
        |status, detail: Detail| Kind::TaskDone { status, seconds, detail: Box::new(detail) };
    match answer {
        Ok((rc, stdout, stderr)) => {
            let mut detail = Detail { rc: Some(rc), ..Detail::default() };
            let pairs = [
                ("rc", Value::from(rc)),
                ("stdout", Value::from(stdout)),
                ("stderr", Value::from(stderr)),
            ];
            detail.result = crate::step::data(&pairs);
            match rc {
                0 => (Event::host(name, done(Status::Ok, detail), ""), Exit::Done),
                _ => {
                    let message = format!("exit status {rc}");
                    (Event::host(name, done(Status::Failed, detail), message), Exit::Failed)
                }
            }
        }
        Err(error) if error.exit() == Exit::Unreachable && !error.outcome_unknown() => {
            let kind = Kind::Unreachable { hint: error.hint() };
            (Event::host(name, kind, error.to_string()), Exit::Unreachable)
        }
        Err(error) => {
            let detail = Detail { hint: error.hint(), ..Detail::default() };
            let kind = done(error.status(), detail);
            (Event::host(name, kind, error.to_string()), error.exit())
        }
    }
}

/// For people: each line of output behind its host's name.
struct Rows;

impl Sink for Rows {
    fn emit(&self, event: &Event) {
        let Some(host) = &event.host else { return };
        let rows = |text: &str| -> String {
            text.lines().map(|line| format!("{host}  {line}\n")).collect()
        };
        let mut hint = None;
        if let Kind::TaskDone { detail, .. } = &event.kind {
            let text = |key: &str| detail.result.get(key).and_then(Value::as_str);
            Printer.out(&rows(text("stdout").unwrap_or_default()));
            Printer.err(&rows(text("stderr").unwrap_or_default()));
            hint.clone_from(&detail.hint);
        }
        if let Kind::Unreachable { hint: said } = &event.kind {
            hint.clone_from(said);
        }
        Printer.err(&rows(&event.message));
        if let Some(hint) = hint {
            Printer.err(&rows(&format!("hint: {hint}")));
        }
    }
}
