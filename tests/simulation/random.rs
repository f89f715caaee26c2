//! Schedules that nobody thought of.

use pgorch::model::HostName;
use pgorch::operation::Accepted;

use super::world::Stonith;
use super::{Controller, EVERY, Fate, World, healed_and_rejoined};

const SCHEDULES: u64 = 400;
/// Things that happen in one of them.
const EVENTS: usize = 140;

/// SplitMix64 (public domain): small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("small");
        usize::try_from(self.roll() % end).expect("small")
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn random_schedules() {
    let started = std::time::Instant::now();
    if let Some(seed) = number("PGORCH_SEED") {
        schedule(seed);
        return;
    }
    let count = number("PGORCH_SCHEDULES").unwrap_or(SCHEDULES);
    let mut done = 0;
    for seed in 0..count {
        done += u64::from(schedule(seed));
    }
    // Where every operation fails at once nothing is tested.
    assert!(done > count / 4, "only {done} of {count} schedules changed the primary");
    let seconds = started.elapsed().as_secs_f64();
    eprintln!("{count} random schedules, {done} with a new primary, in {seconds:.1} s");
}

fn fate(dice: &mut Dice) -> Fate {
    if dice.percent(88) {
        return Fate::Fine;
    }
    match dice.below(6) {
        0 => Fate::Lost,
        1 => Fate::Refused,
        2 => Fate::Swallowed,
        3 => Fate::Late,
        _ => Fate::Dies(dice.below(7)),
    }
}

fn controller(dice: &mut Dice, number: usize, hosts: &[HostName]) -> Controller {
    let name = format!("c{}", number % 3);
    match dice.below(10) {
        0..3 => Controller::resume(&name),
        3..7 => Controller::switchover(&name, dice.of(hosts).as_str()),
        _ => {
            let to = if dice.percent(60) { String::new() } else { dice.of(hosts).0 };
            let accepted =
                Accepted { split_brain_risk: dice.percent(50), data_loss: dice.percent(20) };
            Controller::failover(&name, &to, accepted)
        }
    }
}

/// Something that a node may get over by itself.
fn trouble(dice: &mut Dice, world: &mut World, host: &HostName) {
    let on = dice.percent(50);
    match dice.below(5) {
        0 => world.kill_server(host),
        1 => world.freeze(host, on),
        2 => world.pause(host, on),
        3 => world.nodes[host].stalled = on,
        _ => {
            for pooler in world.poolers.values_mut() {
                match dice.below(3) {
                    0 => pooler.stop(),
                    1 => pooler.start(),
                    _ => pooler.stubborn = on,
                }
            }
        }
    }
}

/// Whether another node was the primary at some time.
fn schedule(seed: u64) -> bool {
    let mut dice = Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let text = dice.of(&EVERY);
    let mut world = World::new(text, format!("PGORCH_SEED={seed}"));
    let hosts = world.names();
    let machines = world.machines();
    world.stonith = dice.of(&[
        Stonith::SwitchesOff,
        Stonith::SwitchesOff,
        Stonith::Fails,
        Stonith::FailsAndIsOff,
    ]);
    let calm = dice.percent(30);
    let mut controllers = vec![controller(&mut dice, 0, &hosts)];
    let mut made = 1;
    for _ in 0..EVENTS {
        let host = dice.of(&hosts);
        match dice.below(100) {
            0..60 => {
                let at = dice.below(controllers.len());
                let fate = if calm { Fate::Fine } else { fate(&mut dice) };
                let choice = dice.below(4);
                controllers[at].advance(&mut world, fate, choice);
            }
            60..75 => world.commit(),
            75..82 => {
                let most = dice.below(4);
                world.receive(&host, most);
            }
            82 if !calm => world.power_off(&dice.of(&machines)),
            83..85 => world.power_on(&dice.of(&machines)),
            85 => {
                world.start_server(&host);
            }
            86 if !calm => trouble(&mut dice, &mut world, &host),
            87 if !calm => {
                let mut parties: Vec<String> = machines.iter().map(|h| h.0.clone()).collect();
                parties.extend(["c0", "c1", "c2"].map(str::to_owned));
                let cut = (dice.of(&parties), dice.of(&parties));
                world.tell(format!("cut {cut:?}"));
                world.cuts.insert(cut);
            }
            88..90 => world.cuts.clear(),
            90 if !world.late.is_empty() => {
                let at = dice.below(world.late.len());
                world.deliver(at);
            }
            91..93 => world.finish_promotion(&host),
            93 => {
                let at = dice.below(controllers.len());
                controllers[at].interrupt();
            }
            94..98 => {
                let at = dice.below(controllers.len());
                if controllers[at].ended.is_some() || dice.percent(20) {
                    controllers[at] = controller(&mut dice, made, &hosts);
                    made += 1;
                }
            }
            98 if controllers.len() < 3 => {
                controllers.push(controller(&mut dice, made, &hosts));
                made += 1;
            }
            _ => {}
        }
        world.check();
    }
    // Those that sleep wake up at last, while the others are gone.
    if dice.percent(50) {
        world.mend();
        for controller in &mut controllers {
            controller.run(&mut world);
        }
    }
    healed_and_rejoined(&mut world);
    world.nodes.values().any(|n| n.wal.iter().any(|r| r.timeline > 1))
}
