//! `events`: the cluster's own history and this controller's runs, in one order of time.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;

use super::args::{Common, Output};
use super::error::CliError;
use super::{block_on, load};
use crate::model::{Exit, HostName, Redactor, Value};
use crate::postgres;
use crate::runner::Link;
use crate::transport::Sql;
use crate::ui::Printer;
use crate::{clock, journal};

const QUERY_DEADLINE: Duration = Duration::from_secs(10);
const FOLLOW_EVERY: Duration = Duration::from_secs(2);

pub(super) fn events(common: &Common, follow: bool, lines: usize) -> Result<Exit, CliError> {
    let paths = load::find_all(common)?;
    let several = paths.len() > 1;
    block_on(async move {
        let interrupted = tokio::signal::ctrl_c();
        let show = async {
            let opening = paths.iter().map(|path| History::open(common, path));
            let mut all = Vec::new();
            for history in join_all(opening).await {
                all.push(history?);
            }
            let mut first = true;
            loop {
                let fresh = join_all(all.iter_mut().map(|h| h.fresh(several))).await;
                let mut fresh = fresh.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
                fresh.sort_by(|a, b| time(a).cmp(time(b)));
                let from = if first { fresh.len().saturating_sub(lines) } else { 0 };
                for event in &fresh[from..] {
                    Printer.out(&format!("{}\n", line(common, event)));
                }
                if !follow {
                    return Ok(Exit::Done);
                }
                first = false;
                clock::sleep(FOLLOW_EVERY).await;
            }
        };
        tokio::select! {
            done = show => done,
            _ = interrupted => Ok(Exit::Interrupted),
        }
    })?
}

/// One cluster's events, and which of them are shown already.
struct History {
    cluster: String,
    redactor: Redactor,
    links: Vec<Link>,
    sessions: HashMap<HostName, Sql>,
    shown: HashSet<String>,
    /// Nobody answered: said once, not every two seconds.
    alone: bool,
}

impl History {
    async fn open(common: &Common, path: &Path) -> Result<Self, CliError> {
        let common = load::with_inventory(common, path);
        let prepared = load::prepare_to_look(&common, None)?;
        Ok(History {
            cluster: prepared.inventory.cluster.clone(),
            redactor: prepared.redactor.clone(),
            links: prepared.links(&common).await?.into_values().collect(),
            sessions: HashMap::new(),
            shown: HashSet::new(),
            alone: false,
        })
    }

    /// What was not shown yet; with the cluster's name where there are several.
    async fn fresh(&mut self, several: bool) -> Result<Vec<Value>, CliError> {
        let mut all = local(&self.cluster)?;
        match self.remote().await {
            Some(events) => {
                self.alone = false;
                all.extend(events);
            }
            None if self.alone || self.links.is_empty() => {}
            None => {
                self.alone = true;
                let cluster = &self.cluster;
                Printer.err(&format!(
                    "note: no node of {cluster} tells its history; this controller's runs only\n"
                ));
            }
        }
        let mut fresh = Vec::new();
        for event in all {
            let mut event = self.redactor.mask_value(&event);
            if self.shown.insert(event.to_string()) {
                if several {
                    event["cluster"] = Value::from(self.cluster.clone());
                }
                fresh.push(event);
            }
        }
        Ok(fresh)
    }

    /// `pgorch.events` of the first node that answers: it follows the primary by replication.
    async fn remote(&mut self) -> Option<Vec<Value>> {
        // The node that answered last is asked first: one that is down costs a timeout.
        let sessions = &self.sessions;
        self.links.sort_by_key(|link| !sessions.get(&link.host).is_some_and(Sql::alive));
        for link in &mut self.links {
            let host = link.host.clone();
            if !self.sessions.get(&host).is_some_and(Sql::alive) {
                match link.session("postgres").await {
                    Ok(session) => self.sessions.insert(host.clone(), session),
                    Err(_) => continue,
                };
            }
            let Some(session) = self.sessions.get(&host) else { continue };
            // The table is not there before the first apply has come to its end.
            let rows = session.query(&postgres::sql::events(), &[], QUERY_DEADLINE).await;
            let text = rows.ok().and_then(|rows| rows.first()?.try_get::<_, String>(0).ok());
            if let Some(text) = text {
                return Some(serde_json::from_str(&text).unwrap_or_default());
            }
        }
        None
    }
}

fn time(event: &Value) -> &str {
    event["time"].as_str().unwrap_or_default()
}

/// What this controller did; finished tasks only where they changed or failed.
fn local(cluster: &str) -> Result<Vec<Value>, CliError> {
    let read = journal::read(&load::state_dir(), cluster);
    let events = read.map_err(|e| CliError::failed(format!("cannot read the journal: {e}")))?;
    let worth = |e: &Value| match e["event"].as_str() {
        Some("task_done") => matches!(e["status"].as_str(), Some("changed" | "failed" | "unknown")),
        Some("run_started" | "run_done" | "unreachable" | "refused" | "notice") => true,
        _ => false,
    };
    Ok(events.into_iter().filter(worth).collect())
}

fn line(common: &Common, event: &Value) -> String {
    if common.output == Output::Json {
        return event.to_string();
    }
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    let mut words = vec![text("time").get(..19).unwrap_or(text("time")).replace('T', " ")];
    for key in ["cluster", "event", "host", "status", "task", "message"] {
        if !text(key).is_empty() {
            words.push(text(key).to_owned());
        }
    }
    if text("event") == "run_done" {
        words.push(format!("exit {}", event["data"]["exit"]));
    }
    words.join("  ")
}
