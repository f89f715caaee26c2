//! A crashed primary is started again in its place: what `pgorch start NODE` does, with a limit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::hands::{Hands, refused};
use crate::event::{Event, Kind};
use crate::model::{Exit, HostName, Value};
use crate::runner::{PrimaryRule, Runner};
use crate::step::Options;
use crate::topology::Bootstrap;
use crate::watch::{ActEnd, Watch, short_recovery};

impl Hands {
    /// Refused is everything after which it is to be replaced.
    pub(super) async fn restart(
        &self,
        primary: &HostName,
        limit: Duration,
        watch: &Arc<Mutex<Watch>>,
    ) -> ActEnd {
        let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
        let vars = vec![("start_timeout".to_owned(), Value::from(seconds.max(1)))];
        let runner = match (self.make)(self.start.clone(), vec![primary.clone()], vars).await {
            Ok(runner) => runner,
            Err(why) => return refused("restart_failed", why),
        };
        runner.consented.store(true, std::sync::atomic::Ordering::Relaxed);
        let options = Options::default();
        runner.first_batch(&options).await;
        let last = watch.lock().unwrap_or_else(PoisonError::into_inner).recorded().cloned();
        let end = last.filter(|r| r.primary == *primary).and_then(|r| r.lsn);
        if let Err(why) = may_be_soon(&runner, primary, end, limit) {
            return refused("restart_failed", why);
        }
        if let Some((on, open)) = runner.open_operation() {
            return refused("operation_open", format!("the {} is not over on {on}", open.kind));
        }
        let named = Some(vec![primary.clone()]);
        if let Err(refusal) = runner.resolve_primary(&PrimaryRule::Start { named }) {
            let Bootstrap::Refuse { code, reason, .. } = *refusal else {
                return refused("restart_failed", "it is not the primary any more");
            };
            return refused(code, reason);
        }
        if self.dry_run {
            return refused("dry_run", format!("would: pgorch start {primary}"));
        }
        let text = format!("{primary} is started again");
        self.runner.sink.emit(&Event::run(Kind::Notice, text));
        let report = runner.pass(&options).await;
        match report.exit.unwrap_or(Exit::Done) {
            Exit::Done => ActEnd::Done,
            exit => refused("restart_failed", format!("it ended with exit code {}", exit.code())),
        }
    }
}

/// Whether what is on its disk promises that it is back in time.
fn may_be_soon(
    runner: &Runner,
    primary: &HostName,
    end: Option<crate::model::Lsn>,
    limit: Duration,
) -> Result<(), String> {
    let snapshot = runner.snapshot();
    let facts = snapshot.nodes.get(primary).and_then(|seen| seen.facts());
    let instance = facts.and_then(|f| f.instance.as_ref());
    let control = instance.and_then(|i| i.cluster()).and_then(|c| c.control.as_ref());
    let control = control.ok_or("its control file cannot be read")?;
    let end = end.ok_or("where its WAL ended was not seen")?;
    if short_recovery(control.redo_lsn, end, limit) {
        return Ok(());
    }
    let bytes = end.bytes_since(control.redo_lsn);
    Err(format!("{} MB are to be replayed, which takes longer than {limit:?}", bytes >> 20))
}
