//! Blocks and tasks of a run on single nodes, as runner/play.rs, task.rs and perform.rs go through them.

use std::collections::BTreeMap;

use pgorch::facts::Observation;
use pgorch::model::{Fragment, HostName, Resource, Value};
use pgorch::plan::{Judged, Look, LoopItem, expand_loop, judge};
use pgorch::playbook::{Block, Common, Item, Task};
use pgorch::step::{Change, StepError, Verdict, needs_facts};
use pgorch::template::Vars;

use super::act::Halt;
use super::answers::RENDERED;
use super::controller::Fate;
use super::deeds::Deed;
use super::run::{Failure, Flow, Run, State};
use super::world::Late;

impl Run<'_, '_> {
    pub(super) fn items(&mut self, host: &HostName, items: &[Item], around: &[&Common]) -> Flow {
        for item in items {
            let flow = match item {
                Item::Task(task) => self.task(host, task, around),
                Item::Block(block) => self.block(host, block, around),
            };
            if !matches!(flow, Flow::Done) {
                return flow;
            }
        }
        Flow::Done
    }

    fn block(&mut self, host: &HostName, block: &Block, around: &[&Common]) -> Flow {
        let mut inner = around.to_vec();
        inner.push(&block.common);
        assert!(block.r#loop.is_none() && block.always.is_empty(), "not in these playbooks");
        match self.items(host, &block.block, &inner) {
            Flow::Failed(why) if !block.rescue.is_empty() && !why.lost && !why.refused => {
                let result = serde_json::json!({ "failed": true, "msg": why.message });
                self.set(host, "ansible_failed_result", result);
                self.items(host, &block.rescue, &inner)
            }
            flow => flow,
        }
    }

    fn set(&mut self, host: &HostName, name: &str, value: Value) {
        if let Some(state) = self.hosts.get_mut(host) {
            state.scope.set.insert(name.to_owned(), value);
        }
    }

    /// Calls `f` with a look at the task, as it runs on `target`.
    pub(super) fn look_with<R>(
        &self,
        host: &HostName,
        target: &HostName,
        (task, around): (&Task, &[&Common]),
        item: Option<&LoopItem>,
        f: impl FnOnce(&Look<'_>) -> R,
    ) -> R {
        let scope = self.hosts.get(host).map(|s| s.scope.clone()).unwrap_or_default();
        let facts = |name: &HostName| self.snapshot.nodes.get(name).and_then(Observation::facts);
        f(&Look {
            run: &self.vars,
            live: &self.live,
            options: &self.options,
            scope: &scope,
            task,
            around,
            item,
            host: target,
            own_facts: facts(host),
            facts: facts(target),
            snapshot: &self.snapshot,
            files: &BTreeMap::new(),
        })
    }

    fn task(&mut self, host: &HostName, task: &Task, around: &[&Common]) -> Flow {
        if RENDERED.contains(&task.kind.name) {
            return Flow::Done;
        }
        let at = (task, around);
        let items = self.look_with(host, host, at, None, |look| {
            expand_loop(&self.vars, task.r#loop.as_ref(), &look.variables())
        });
        let items = items.unwrap_or_else(|e| panic!("{}: {e}", task.name));
        for item in items {
            let flow = self.attempt(host, at, item.as_ref());
            if !matches!(flow, Flow::Done) {
                return flow;
            }
        }
        Flow::Done
    }

    fn target(
        &self,
        host: &HostName,
        at: (&Task, &[&Common]),
        item: Option<&LoopItem>,
    ) -> HostName {
        let Some(node) = &at.0.common.delegate_to else { return host.clone() };
        let value = self.look_with(host, host, at, item, |look| {
            self.vars.templates.render_value(node, Vars::from(&look.variables()))
        });
        HostName::from(value.expect("a host").as_str().expect("a name"))
    }

    fn attempt(
        &mut self,
        host: &HostName,
        at: (&Task, &[&Common]),
        item: Option<&LoopItem>,
    ) -> Flow {
        let task = at.0;
        if self.is_skipped(host, at, item) {
            return self.registers(host, task, serde_json::json!({ "skipped": true }));
        }
        let target = self.target(host, at, item);
        if needs_facts(task.kind) && self.stale.contains(&target) && !self.look_at(&target) {
            return lost(format!("{target} does not answer"));
        }
        let (world, inventory) = (&*self.world, self.inventory);
        let answer = |_: &Fragment| Some(world.answer(task.kind.name, &target, inventory));
        let judged = self.look_with(host, &target, at, item, |look| judge(look, &answer));
        match judged {
            Judged::Skipped(_) => {
                self.registers(host, task, serde_json::json!({ "skipped": true }))
            }
            Judged::KnownAfter(_) => Flow::Done,
            Judged::NeedFiles(_) | Judged::Ask(_) => panic!("\"{}\" asks for more", task.name),
            Judged::Failed(error, reads) => self.cannot(&target, task, error, &reads),
            Judged::Verdict(verdict, _) => match *verdict {
                Verdict::Satisfied(report) => {
                    for (name, value) in report.set_vars {
                        self.set(host, &name, value);
                    }
                    self.registers(host, task, Value::Object(report.data))
                }
                Verdict::NotYet(_) if self.options.check && self.anything_pending() => Flow::Done,
                Verdict::NotYet(why) => failed(why),
                Verdict::Wait(_) if self.options.check => Flow::Done,
                Verdict::Change(change) if self.options.check => {
                    for command in &change.commands {
                        let on = command.on.as_ref().unwrap_or(&target);
                        let state = self.hosts.entry(on.clone()).or_insert_with(|| State {
                            // It is not in the run: only what is pending there is of interest.
                            out: true,
                            ..State::default()
                        });
                        state.pending.extend(change.writes.iter().cloned());
                    }
                    Flow::Done
                }
                Verdict::Wait(change) => self.perform(host, &target, task, &change, false),
                Verdict::Change(change) => self.perform(host, &target, task, &change, true),
            },
        }
    }

    /// Whom a task is delegated to may be unknown where its condition does not hold.
    fn is_skipped(
        &self,
        host: &HostName,
        at: (&Task, &[&Common]),
        item: Option<&LoopItem>,
    ) -> bool {
        self.look_with(host, host, at, item, |look| look.is_skipped())
    }

    fn anything_pending(&self) -> bool {
        self.hosts.values().any(|s| !s.pending.is_empty())
    }

    /// What a read-only pass finds against a task may be otherwise by then (runner/foresee.rs).
    fn cannot(&self, target: &HostName, task: &Task, error: StepError, reads: &[Resource]) -> Flow {
        let pending = self.hosts.get(target).map(|s| s.pending.as_slice()).unwrap_or_default();
        let made = self.vars.nodes.get(target).map(|n| {
            [n.data_dir.clone(), format!("{}/{}.fenced", n.home, n.name)].map(Resource::Path)
        });
        let anew = |made: [Resource; 2]| made.iter().any(|m| pending.contains(m));
        let made_anew = needs_facts(task.kind) && made.is_some_and(anew);
        let touched = pending
            .iter()
            .any(|w| *w != Resource::Postgres && reads.iter().any(|read| w.touches(read)));
        if self.options.check && (made_anew || touched) {
            return Flow::Done;
        }
        Flow::Failed(Failure { message: error.message, refused: error.refused, lost: false })
    }

    fn registers(&mut self, host: &HostName, task: &Task, mut result: Value) -> Flow {
        if let (Some(name), Value::Object(map)) = (&task.register, &mut result) {
            map.insert("failed".to_owned(), false.into());
            map.entry("changed").or_insert(false.into());
            self.set(host, name, result);
        }
        Flow::Done
    }

    /// `make` of runner/perform.rs.
    fn perform(
        &mut self,
        host: &HostName,
        target: &HostName,
        task: &Task,
        change: &Change,
        counts: bool,
    ) -> Flow {
        for command in &change.commands {
            let on = command.on.clone().unwrap_or_else(|| target.clone());
            let deed = Deed::of(command, change, self.inventory);
            let Some(fate) = self.unit(&format!("{on}: {}", command.label)) else {
                return Flow::Stop;
            };
            if !change.writes.is_empty() {
                self.stale.insert(on.clone());
            }
            let done = self.send(&on, &deed, fate);
            self.world.tell(format!(
                "{}: {} on {on} ({fate:?}): {}",
                self.command.me,
                command.label,
                match &done {
                    Flow::Failed(why) => why.message.as_str(),
                    _ => "done",
                }
            ));
            self.world.check();
            if !matches!(done, Flow::Done) {
                return done;
            }
        }
        if change.impact.restart {
            let peers = self.inventory.nodes.keys().filter(|n| *n != target);
            self.stale.extend(peers.cloned());
        }
        self.came.changed += usize::from(counts);
        self.registers(host, task, Value::Object(change.report.data.clone()))
    }

    fn send(&mut self, on: &HostName, deed: &Deed, fate: Fate) -> Flow {
        let epoch = self.epochs.get(on).copied().unwrap_or(u64::MAX);
        let me = self.me();
        let gone = || lost("its answer is lost");
        match fate {
            Fate::Refused => return lost("no connection"),
            Fate::Swallowed => return gone(),
            Fate::Late => {
                self.world.late.push_back(Late::Deed { on: on.clone(), deed: deed.clone(), epoch });
                return gone();
            }
            _ if !self.world.alive(on) || !self.world.passes(me, on.as_str()) => return gone(),
            Fate::Dies(fuel) => self.world.fuel = Some(fuel),
            Fate::Fine | Fate::Lost => {}
        }
        let done = self.world.deed(on, deed, epoch);
        if fate == Fate::Lost || !self.world.passes(on.as_str(), me) {
            return gone();
        }
        match done {
            Ok(()) => Flow::Done,
            Err(Halt::Died) => failed("the script died"),
            Err(Halt::Failed(why)) => failed(why),
            Err(Halt::Refused(why)) => {
                Flow::Failed(Failure { message: why, refused: true, lost: false })
            }
        }
    }
}

fn lost(message: impl Into<String>) -> Flow {
    Flow::Failed(Failure { message: message.into(), refused: false, lost: true })
}

fn failed(message: impl Into<String>) -> Flow {
    Flow::Failed(Failure { message: message.into(), refused: false, lost: false })
}
