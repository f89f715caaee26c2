//! Plays, blocks, handlers: who runs what, in which order.

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};

use super::outcome::Outcome;
use super::task::At;
use super::{Pass, Runner, lock};
use crate::event::{Event, Kind};
use crate::inventory::match_hosts;
use crate::model::{Exit, HostName, Value};
use crate::plan::{LoopItem, expand_loop};
use crate::playbook::{Block, Common, Item, Play, Segment, Serial, Task, segments, walk};

/// How a list of tasks ended on a host.
#[derive(Debug)]
pub(crate) enum Flow {
    Done,
    Failed(Box<Outcome>),
    /// Interrupted, or the host is gone.
    Stop,
}

impl Runner {
    /// Every play in order; the end of a play is a barrier. What belongs to an operation is done as one.
    pub(crate) async fn plays(&self, pass: &Pass) {
        let segments = match segments(&self.playbook.plays) {
            Ok(segments) => segments,
            Err(complaint) => return self.bad_play("bad_operation", &complaint.message),
        };
        for segment in segments {
            let goes_on = match segment {
                Segment::Operation(plays) if !self.interrupted() => {
                    self.operation(pass, plays).await
                }
                Segment::Operation(_) => false,
                Segment::Plays(plays) => {
                    let mut goes_on = true;
                    for play in plays {
                        goes_on = goes_on && self.play(pass, play).await;
                    }
                    goes_on
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    fn bad_play(&self, code: &str, message: &str) {
        self.emit(Event::run(Kind::Refused { code: code.to_owned(), hint: None }, message));
    }

    /// One play on its hosts as they are now. False: the run ends here.
    async fn play(&self, pass: &Pass, play: &Play) -> bool {
        if self.interrupted() {
            return false;
        }
        if !self.play_has_tasks(play) {
            return true;
        }
        self.refresh(pass).await;
        let hosts = match match_hosts(&play.hosts.text, &self.vars.inventory, &self.roles()) {
            Ok(hosts) => self.still_in(pass, hosts),
            Err(error) => {
                self.bad_play("bad_pattern", &format!("{error} ({})", play.hosts.span.place()));
                return false;
            }
        };
        if hosts.is_empty() {
            return true;
        }
        let kind = Kind::PlayStarted { hosts: hosts.len() };
        self.emit(Event { play: Some(play.name.clone()), ..Event::run(kind, "") });
        for (number, batch) in batches(&hosts, &play.serial).into_iter().enumerate() {
            if number > 0 {
                // The next in turn looks at what the one before it has left.
                self.refresh(pass).await;
            }
            self.batch(pass, play, batch).await;
            let failed = self.still_in(pass, batch.to_vec()).len() < batch.len();
            if failed && (play.any_errors_fatal || !play.serial.is_empty()) {
                // A rolling play stops at the first surprise, and the run with it: the hosts
                // that it did not come to, and the plays after it, are left as they are.
                return false;
            }
        }
        true
    }

    async fn batch(&self, pass: &Pass, play: &Play, hosts: &[HostName]) {
        // As in Ansible, `run_once` is once for each batch.
        lock(&pass.once).clear();
        let forks = if self.select.forks == 0 { hosts.len() } else { self.select.forks };
        stream::iter(hosts)
            .map(|host| self.play_on(pass, play, host))
            .buffer_unordered(forks.max(1))
            .collect::<Vec<()>>()
            .await;
    }

    fn still_in(&self, pass: &Pass, hosts: Vec<HostName>) -> Vec<HostName> {
        let states = lock(&pass.hosts);
        let usable = |h: &HostName| states.get(h).is_some_and(|s| s.out.is_none());
        hosts.into_iter().filter(usable).collect()
    }

    async fn play_on(&self, pass: &Pass, play: &Play, host: &HostName) {
        let around = vec![&play.common];
        let mut flow = self.run_items(pass, play, host, &play.tasks, &around).await;
        if matches!(flow, Flow::Done) {
            flow = self.flush_handlers(pass, play, host).await;
        }
        if let Flow::Failed(outcome) = flow
            && let Some(state) = lock(&pass.hosts).get_mut(host)
        {
            state.out = Some(outcome.exit.unwrap_or(Exit::Failed));
            *lock(&pass.fatal) |= play.any_errors_fatal;
        }
    }

    fn run_items<'a>(
        &'a self,
        pass: &'a Pass,
        play: &'a Play,
        host: &'a HostName,
        items: &'a [Item],
        around: &'a [&'a Common],
    ) -> BoxFuture<'a, Flow> {
        Box::pin(async move {
            for item in items {
                if self.interrupted() {
                    self.note_stop_at(host, item);
                    return Flow::Stop;
                }
                if *lock(&pass.fatal) {
                    return Flow::Stop;
                }
                let flow = match item {
                    Item::Task(task) => self.run_item_task(pass, play, host, task, around).await,
                    Item::Block(block) => self.run_block(pass, play, host, block, around).await,
                };
                if !matches!(flow, Flow::Done) {
                    return flow;
                }
            }
            Flow::Done
        })
    }

    async fn run_item_task(
        &self,
        pass: &Pass,
        play: &Play,
        host: &HostName,
        task: &Task,
        around: &[&Common],
    ) -> Flow {
        if !self.selected(around, task) {
            return Flow::Done;
        }
        let at = At { pass, host, play: &play.name, task, around };
        let flushes = task.kind.name == "meta"
            && task.args.iter().any(|(_, n)| n.as_str() == Some("flush_handlers"));
        if flushes {
            return self.flush_handlers(pass, play, host).await;
        }
        let outcome = self.run_task(&at).await;
        if outcome.exit == Some(Exit::Interrupted) && !outcome.failed() {
            self.note_stop(host, task);
            return Flow::Stop;
        }
        if let Some(state) = lock(&pass.hosts).get_mut(host) {
            state.done.insert(task.id);
        }
        if outcome.failed() { Flow::Failed(Box::new(outcome)) } else { Flow::Done }
    }

    async fn run_block(
        &self,
        pass: &Pass,
        play: &Play,
        host: &HostName,
        block: &Block,
        around: &[&Common],
    ) -> Flow {
        let mut inner: Vec<&Common> = around.to_vec();
        inner.push(&block.common);
        let items = match self.block_items(pass, play, host, block, &inner).await {
            Ok(items) => items,
            Err(outcome) => return Flow::Failed(outcome),
        };
        let mut flow = Flow::Done;
        for item in items {
            self.enter_item(pass, host, item.as_ref());
            flow = self.run_items(pass, play, host, &block.block, &inner).await;
            self.leave_item(pass, host, block, item.as_ref());
            if !matches!(flow, Flow::Done) {
                break;
            }
        }
        flow = match flow {
            Flow::Failed(outcome) if !block.rescue.is_empty() && !gone(&outcome) => {
                self.rescued(pass, host, &outcome);
                self.run_items(pass, play, host, &block.rescue, &inner).await
            }
            other => other,
        };
        if matches!(&flow, Flow::Failed(outcome) if outcome.exit == Some(Exit::Unreachable)) {
            return flow;
        }
        let always = self.run_items(pass, play, host, &block.always, &inner).await;
        if matches!(flow, Flow::Done) { always } else { flow }
    }

    /// The passes of a looped include.
    async fn block_items(
        &self,
        pass: &Pass,
        play: &Play,
        host: &HostName,
        block: &Block,
        around: &[&Common],
    ) -> Result<Vec<Option<LoopItem>>, Box<Outcome>> {
        let Some(spec) = &block.r#loop else { return Ok(vec![None]) };
        let mut tasks = walk(&block.block, around);
        tasks.retain(|(around, task)| self.selected(around, task));
        let Some((_, task)) = tasks.first() else { return Ok(Vec::new()) };
        let at = At { pass, host, play: &play.name, task, around };
        let looked = self.with_look(&at, None, |look| {
            let items = expand_loop(&self.vars, Some(spec), &look.variables());
            let unknown = look.unknown_names();
            let after = self.vars.templates.roots_of(&spec.items);
            let after = after.iter().find_map(|root| unknown.get(root).cloned());
            // What the loop names may be undefined just where `when` is false.
            (items.or_else(|e| if look.is_false_around() { Ok(Vec::new()) } else { Err(e) }), after)
        });
        match looked {
            (_, Some(task)) => {
                // The tasks are judged once, without an item, and say after what they are known.
                if let Some(state) = lock(&pass.hosts).get_mut(host) {
                    state.scope.unknown.insert(spec.var.clone(), task);
                }
                Ok(vec![None])
            }
            (Ok(items), None) => Ok(items),
            (Err(error), None) => {
                let outcome = self.finish(&at, None, Outcome::error(&error), 0.0);
                Err(Box::new(outcome))
            }
        }
    }

    /// The item of a looped include is a variable of the host while its tasks run.
    fn enter_item(&self, pass: &Pass, host: &HostName, item: Option<&LoopItem>) {
        if let Some(state) = lock(&pass.hosts).get_mut(host) {
            state.scope.items.extend(item.cloned());
        }
    }

    fn leave_item(&self, pass: &Pass, host: &HostName, block: &Block, item: Option<&LoopItem>) {
        let Some(spec) = &block.r#loop else { return };
        if let Some(state) = lock(&pass.hosts).get_mut(host) {
            match item {
                Some(_) => drop(state.scope.items.pop()),
                None => drop(state.scope.unknown.remove(&spec.var)),
            }
        }
    }

    /// Remembers the first task that an interrupted run did not come to.
    fn note_stop_at(&self, host: &HostName, item: &Item) {
        let mut tasks = Vec::new();
        crate::playbook::flatten(std::slice::from_ref(item), &mut tasks);
        if let Some(task) = tasks.first() {
            self.note_stop(host, task);
        }
    }

    fn note_stop(&self, host: &HostName, task: &Task) {
        lock(&self.stopped).entry(host.clone()).or_insert_with(|| task.name.clone());
    }

    fn rescued(&self, pass: &Pass, host: &HostName, outcome: &Outcome) {
        if let Some(state) = lock(&pass.hosts).get_mut(host) {
            state.counts.failed = state.counts.failed.saturating_sub(1);
            state.counts.ignored += 1;
            let result = Value::Object(outcome.result.clone());
            state.scope.set.insert("ansible_failed_result".into(), result);
        }
    }

    async fn flush_handlers(&self, pass: &Pass, play: &Play, host: &HostName) -> Flow {
        for handler in &play.handlers {
            if self.interrupted() {
                self.note_stop(host, handler);
                return Flow::Stop;
            }
            let due = lock(&pass.hosts)
                .get_mut(host)
                .is_some_and(|state| state.notified.remove(&handler.id));
            if !due {
                continue;
            }
            let around = [&play.common];
            let at = At { pass, host, play: &play.name, task: handler, around: &around };
            let outcome = self.run_task(&at).await;
            if outcome.failed() {
                return Flow::Failed(Box::new(outcome));
            }
        }
        Flow::Done
    }

    fn play_has_tasks(&self, play: &Play) -> bool {
        walk(&play.tasks, &[&play.common]).iter().any(|(around, task)| self.selected(around, task))
    }

    /// Whether the command line lets a task run.
    pub(crate) fn selected(&self, around: &[&Common], task: &Task) -> bool {
        self.select.choice.allows(around, task)
    }
}

/// Nothing can be rescued on a host that is gone or refused for safety.
fn gone(outcome: &Outcome) -> bool {
    matches!(outcome.exit, Some(Exit::Unreachable | Exit::Refused | Exit::Interrupted))
}

/// Hosts cut into the batches of `serial`; the last size repeats.
fn batches<'h>(hosts: &'h [HostName], serial: &[Serial]) -> Vec<&'h [HostName]> {
    let mut rest = hosts;
    let mut out = Vec::new();
    let mut sizes = serial.iter();
    let mut size = hosts.len();
    while !rest.is_empty() {
        if let Some(next) = sizes.next() {
            size = match *next {
                Serial::Count(n) => n,
                Serial::Percent(p) => (hosts.len() * p / 100).max(1),
            };
        }
        let (now, later) = rest.split_at(size.clamp(1, rest.len()));
        out.push(now);
        rest = later;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{HostName, Serial, batches};

    #[test]
    fn the_last_batch_size_repeats() {
        let hosts: Vec<HostName> = (1..=7).map(|n| HostName(format!("h{n}"))).collect();
        let sizes = |serial: &[Serial]| -> Vec<usize> {
            batches(&hosts, serial).iter().map(|b| b.len()).collect()
        };
        assert_eq!(sizes(&[]), [7]);
        assert_eq!(sizes(&[Serial::Count(1), Serial::Count(3)]), [1, 3, 3]);
        assert_eq!(sizes(&[Serial::Percent(30)]), [2, 2, 2, 1]);
    }
}
