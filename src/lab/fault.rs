//! What can be done to lab hosts, as words of the command line and as effects.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use super::cgroup::{Cgroup, parent};
use super::disk::DATA_MOUNT;
use super::host::Host;
use super::store::{Lock, State, StoredCut};
use super::{HostState, LabError, LabKey, network};

/// A host of the lab, or the machine that pgorch runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Party {
    Controller,
    Host(String),
}

impl Party {
    /// `controller` is this machine; every other word is a host.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        if word == "controller" { Party::Controller } else { Party::Host(word.to_owned()) }
    }

    fn stored(&self) -> &str {
        match self {
            Party::Controller => "",
            Party::Host(name) => name,
        }
    }
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Party::Controller => "controller",
            Party::Host(name) => name,
        })
    }
}

/// Something that goes wrong, or is put right again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A shutdown in order, as `poweroff` typed on the host; waits for its end.
    Stop(String),
    /// `kill -9` of the main process of a unit (`NAME` or `NAME.service`), or of the processes of this
    /// name whose parent has another one: `postgres` or `postmaster` is the postmaster alone.
    Kill {
        host: String,
        process: String,
    },
    /// A power loss: silent at once, nothing is flushed by any process. What was written but not
    /// synced is still there afterwards, because this machine's page cache stays.
    PowerOff(String),
    /// Switches the host on and waits until it is ready; its disks are as they were.
    Start(String),
    /// Every process stands still. The kernel is this machine's and goes on: connections stay, what
    /// arrives is acknowledged until buffers are full, and sshd's port accepts without a banner.
    /// Together with cuts to everyone it is a virtual machine that is paused.
    Freeze(String),
    Thaw(String),
    /// Drops the packets `from` → `to` without an answer; with `both`, those of the way back too.
    Cut {
        from: Party,
        to: Party,
        both: bool,
    },
    /// Ends all cuts between two parties, whatever their direction.
    Heal {
        one: Party,
        other: Party,
    },
    /// Ends all cuts and slow links.
    HealAll,
    /// Fills the disk of the default data location to the last block. `path`, if given, must be on it.
    FillDisk {
        host: String,
        path: Option<String>,
    },
    FreeDisk(String),
    /// Delays packets to the host, and loses some. 0 and 0 end it.
    Slow {
        host: String,
        delay_ms: u32,
        loss_percent: u8,
    },
}

/// What [`fault`] did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Applied {
    /// False when everything already was as asked.
    pub changed: bool,
    /// One line for the user.
    pub summary: String,
}

/// The forms that [`parse_fault`] accepts, for help texts.
pub const FAULT_USAGE: &[(&str, &str)] = &[
    ("stop HOST", "shut it down in order"),
    ("start HOST", "switch it on again; its disks are as they were"),
    ("power-off HOST", "power loss: no goodbye to anyone"),
    ("kill HOST PROCESS", "kill -9 a unit's main process, or a process by name (postmaster)"),
    ("freeze HOST", "every process stands still; the kernel still acknowledges"),
    ("thaw HOST", "let it go on"),
    ("cut A B", "drop packets between two parties: hosts, or `controller`"),
    ("cut A to B", "drop them in this direction only (also \"A->B\", quoted)"),
    ("heal [A B]", "end the cuts between two parties, or all cuts and slow links"),
    ("slow HOST DELAY_MS [LOSS_PERCENT]", "delay or lose packets to it; 0 ends it"),
    ("fill-disk HOST [PATH]", "no space left under /var/lib/pgorch"),
    ("free-disk HOST", "give the space back"),
];

/// Reads a fault from the words of a command line, as [`FAULT_USAGE`] has them.
///
/// # Errors
/// A sentence that says what is wrong and shows the right form.
pub fn parse_fault(words: &[String]) -> Result<Fault, String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((verb, rest)) = words.split_first() else {
        return Err(format!("which fault? One of:\n{}", usage(None)));
    };
    let host = |name: &&str| (*name).to_owned();
    match (*verb, rest) {
        ("stop", [name]) => Ok(Fault::Stop(host(name))),
        ("start", [name]) => Ok(Fault::Start(host(name))),
        ("power-off" | "poweroff", [name]) => Ok(Fault::PowerOff(host(name))),
        ("freeze", [name]) => Ok(Fault::Freeze(host(name))),
        ("thaw", [name]) => Ok(Fault::Thaw(host(name))),
        ("free-disk", [name]) => Ok(Fault::FreeDisk(host(name))),
        ("kill", [name, process]) => {
            Ok(Fault::Kill { host: host(name), process: (*process).to_owned() })
        }
        ("fill-disk", [name]) => Ok(Fault::FillDisk { host: host(name), path: None }),
        ("fill-disk", [name, path]) => {
            Ok(Fault::FillDisk { host: host(name), path: Some((*path).to_owned()) })
        }
        ("heal", []) => Ok(Fault::HealAll),
        ("heal", [one, other]) => {
            let (one, other) = (Party::parse(one), Party::parse(other));
            Ok(Fault::Heal { one, other })
        }
        ("slow", [name, delay]) => parse_slow(name, delay, "0"),
        ("slow", [name, delay, loss]) => parse_slow(name, delay, loss),
        ("cut", rest) => parse_cut(rest),
        (verb, _) if FAULT_USAGE.iter().any(|(form, _)| form.split(' ').next() == Some(verb)) => {
            Err(format!(
                "`{}` is not complete or too long:\n{}",
                words.join(" "),
                usage(Some(verb))
            ))
        }
        (verb, _) => Err(format!("there is no fault \"{verb}\". There are:\n{}", usage(None))),
    }
}

fn usage(verb: Option<&str>) -> String {
    let wanted = |form: &str| verb.is_none_or(|verb| form.split(' ').next() == Some(verb));
    let rows = FAULT_USAGE.iter().filter(|(form, _)| wanted(form));
    rows.map(|(form, what)| format!("  {form:<34} {what}")).collect::<Vec<_>>().join("\n")
}

fn parse_slow(name: &str, delay: &str, loss: &str) -> Result<Fault, String> {
    let delay = delay.strip_suffix("ms").unwrap_or(delay);
    let delay_ms =
        delay.parse().map_err(|_| format!("\"{delay}\" is not a number of milliseconds"))?;
    let percent = loss.strip_suffix('%').unwrap_or(loss);
    let loss_percent = percent.parse().ok().filter(|percent| *percent <= 100);
    let loss_percent = loss_percent.ok_or_else(|| format!("\"{loss}\" is not a percentage"))?;
    Ok(Fault::Slow { host: name.to_owned(), delay_ms, loss_percent })
}

fn parse_cut(rest: &[&str]) -> Result<Fault, String> {
    let (from, to, both) = match rest {
        [pair] => match pair.split_once("->") {
            Some((from, to)) => (from.trim(), to.trim(), false),
            None => return Err(format!("cut {pair} from whom?\n{}", usage(Some("cut")))),
        },
        // A shell takes an unquoted `->` apart: `-` stays, and `>` names a file to write.
        [_, "-"] => {
            return Err(format!(
                "the shell took the arrow for a redirection: write `to`, or quote \
                 \"A->B\"\n{}",
                usage(Some("cut"))
            ));
        }
        [from, to] => (*from, *to, true),
        [from, "->" | "to", to] => (*from, *to, false),
        _ => return Err(format!("a cut has two parties:\n{}", usage(Some("cut")))),
    };
    if from.is_empty() || to.is_empty() || from == to {
        return Err(format!("a cut is between two different parties:\n{}", usage(Some("cut"))));
    }
    Ok(Fault::Cut { from: Party::parse(from), to: Party::parse(to), both })
}

/// Makes a fault happen in the lab of `key`.
///
/// # Errors
/// When there is no such lab or host, the host's state forbids it, or the machine refuses.
pub fn fault(key: &LabKey, fault: &Fault) -> Result<Applied, LabError> {
    super::preflight::require_root("making faults in a lab")?;
    let _lock = Lock::of_lab(key)?;
    let mut lab = State::load_existing(key)?;
    match fault {
        Fault::Cut { .. } | Fault::Heal { .. } | Fault::HealAll | Fault::Slow { .. } => {
            on_network(&mut lab, fault)
        }
        Fault::Stop(name)
        | Fault::Kill { host: name, .. }
        | Fault::PowerOff(name)
        | Fault::Start(name)
        | Fault::Freeze(name)
        | Fault::Thaw(name)
        | Fault::FillDisk { host: name, .. }
        | Fault::FreeDisk(name) => {
            let host = Host::of(&lab, lab.host(name)?)?;
            if host.state() == HostState::Stopped {
                // This machine may have rebooted since: no bridge, and no disk to fill but its own.
                network::ensure(&lab)?;
                host.mount()?;
            }
            on_host(&host, name, fault)
        }
    }
}

fn on_host(host: &Host<'_>, name: &str, fault: &Fault) -> Result<Applied, LabError> {
    let state = host.state();
    let wrong = |advice| Err(LabError::WrongState { host: name.to_owned(), state, advice });
    let done = |what: String| Ok(Applied { changed: true, summary: what });
    let already = || Ok(Applied { changed: false, summary: format!("{name} is {state} already") });
    match (fault, state) {
        (_, HostState::Absent) => wrong("`pgorch lab up` makes it"),
        (Fault::Stop(_) | Fault::PowerOff(_), HostState::Stopped) => already(),
        (Fault::Stop(_), HostState::Frozen) => wrong("thaw it first; a power-off works as it is"),
        (Fault::Stop(_), HostState::Running) => {
            host.stop()?;
            done(format!("{name} is shut down"))
        }
        (Fault::PowerOff(_), _) => {
            host.power_off()?;
            done(format!("{name} has lost its power"))
        }
        (Fault::Start(_), HostState::Stopped) => {
            host.start()?;
            host.wait_ready()?;
            done(format!("{name} is up"))
        }
        (Fault::Start(_), HostState::Frozen) => wrong("it is switched on: thaw it"),
        (Fault::Start(_) | Fault::Thaw(_), HostState::Running) => already(),
        (Fault::Freeze(_), HostState::Frozen) => already(),
        (Fault::Freeze(_), HostState::Running) => {
            host.cgroup.freeze(true)?;
            done(format!("{name} stands still"))
        }
        (Fault::Thaw(_), HostState::Frozen) => {
            host.cgroup.freeze(false)?;
            done(format!("{name} goes on"))
        }
        (Fault::Kill { process, .. }, HostState::Running | HostState::Frozen) => {
            let pids = kill(&host.cgroup, name, process)?;
            done(format!(
                "{name}: killed {process} ({} process{})",
                pids,
                if pids == 1 { "" } else { "es" }
            ))
        }
        (Fault::FillDisk { path, .. }, _) => {
            if let Some(path) = path.as_deref().filter(|path| !on_data_disk(path)) {
                return Err(LabError::BadSpec {
                    message: format!(
                        "{name}: {path} is not on a disk of bounded size\nonly {DATA_MOUNT} is, \
                         and what is below it: put data_dir there"
                    ),
                });
            }
            host.disk.fill()?;
            done(format!("{name}: no space is left under {DATA_MOUNT}"))
        }
        (Fault::FreeDisk(_), _) => {
            host.disk.free()?;
            done(format!("{name}: {DATA_MOUNT} has space again"))
        }
        (_, HostState::Stopped) => wrong("start it first"),
        _ => wrong("this fault does not apply"),
    }
}

fn on_data_disk(path: &str) -> bool {
    std::path::Path::new(path).starts_with(DATA_MOUNT) && !path.contains("..")
}

/// Kills what `process` names; returns how many processes that were.
fn kill(cgroup: &Cgroup, host: &str, process: &str) -> Result<usize, LabError> {
    let unit =
        if process.contains('.') { process.to_owned() } else { format!("{process}.service") };
    let mut found = cgroup.in_unit(&unit);
    if found.is_empty() {
        let wanted = if process == "postmaster" { "postgres" } else { process };
        found = cgroup.inside();
        found.retain(|pid| name_of(*pid).as_deref() == Some(wanted));
    }
    let top: Vec<i32> = found
        .iter()
        .copied()
        .filter(|pid| parent(*pid).is_none_or(|parent| !found.contains(&parent)))
        .collect();
    if top.is_empty() {
        return Err(LabError::NoProcess { host: host.to_owned(), process: process.to_owned() });
    }
    for pid in &top {
        if let Some(pid) = Pid::from_raw(*pid) {
            // Gone by itself in between is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    Ok(top.len())
}

/// The kernel's name of a process; it ends after 15 characters.
fn name_of(pid: i32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

fn on_network(lab: &mut State, fault: &Fault) -> Result<Applied, LabError> {
    let before = lab.cuts.clone();
    let summary = match fault {
        Fault::Cut { from, to, both } => {
            for party in [from, to] {
                if let Party::Host(name) = party {
                    lab.host(name)?;
                }
            }
            let cut = |from: &Party, to: &Party| StoredCut {
                from: from.stored().to_owned(),
                to: to.stored().to_owned(),
            };
            lab.cuts.insert(cut(from, to));
            if *both {
                lab.cuts.insert(cut(to, from));
            }
            format!("{from} {} {to}: cut", if *both { "<->" } else { "->" })
        }
        Fault::Heal { one, other } => {
            let pair = [one.stored(), other.stored()];
            lab.cuts.retain(|cut| {
                !(pair.contains(&cut.from.as_str()) && pair.contains(&cut.to.as_str()))
            });
            format!("{one} <-> {other}: healed")
        }
        Fault::Slow { host, delay_ms, loss_percent } => {
            return slow(lab, host, *delay_ms, *loss_percent);
        }
        _ => {
            lab.cuts.clear();
            let slow: Vec<String> =
                lab.hosts.iter().filter(|h| h.slow.is_some()).map(|h| h.name.clone()).collect();
            for name in &slow {
                self::slow(lab, name, 0, 0)?;
            }
            network::render_cuts(lab)?;
            lab.save()?;
            let changed = !before.is_empty() || !slow.is_empty();
            return Ok(Applied { changed, summary: "all links are whole".to_owned() });
        }
    };
    // The kernel first: a state that names a cut which is not there would be a silent lie.
    network::render_cuts(lab)?;
    lab.save()?;
    Ok(Applied { changed: before != lab.cuts, summary })
}

fn slow(lab: &mut State, name: &str, delay: u32, loss: u8) -> Result<Applied, LabError> {
    let wanted = (delay > 0 || loss > 0).then_some((delay, loss));
    let mut stored = lab.host(name)?.clone();
    let changed = stored.slow != wanted;
    stored.slow = wanted;
    if Host::of(lab, &stored)?.cgroup.is_populated() {
        network::slow(&lab.id(), &stored)?;
    }
    for host in lab.hosts.iter_mut().filter(|host| host.name == name) {
        host.slow = wanted;
    }
    lab.save()?;
    let summary = format!("packets to {name}: {delay} ms later, {loss} % lost");
    Ok(Applied { changed, summary })
}

#[cfg(test)]
mod tests {
    use super::{Fault, Party, parse_fault};

    fn parse(line: &str) -> Result<Fault, String> {
        parse_fault(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    fn host(name: &str) -> Party {
        Party::Host(name.to_owned())
    }

    #[test]
    fn cuts_have_two_parties_and_a_direction() {
        let (from, to) = (host("node1"), host("node2"));
        let cut = |both| Fault::Cut { from: from.clone(), to: to.clone(), both };
        assert_eq!(parse("cut node1 node2"), Ok(cut(true)));
        for line in ["cut node1 to node2", "cut node1 -> node2", "cut node1->node2"] {
            assert_eq!(parse(line), Ok(cut(false)), "{line}");
        }
        assert_eq!(
            parse("cut controller node1"),
            Ok(Fault::Cut { from: Party::Controller, to: host("node1"), both: true })
        );
    }

    #[test]
    fn the_other_words() {
        assert_eq!(parse("power-off node1"), Ok(Fault::PowerOff("node1".into())));
        assert_eq!(
            parse("kill node1 postmaster"),
            Ok(Fault::Kill { host: "node1".into(), process: "postmaster".into() })
        );
        assert_eq!(parse("heal"), Ok(Fault::HealAll));
        assert_eq!(
            parse("slow node1 50ms 3%"),
            Ok(Fault::Slow { host: "node1".into(), delay_ms: 50, loss_percent: 3 })
        );
        assert_eq!(
            parse("fill-disk node1"),
            Ok(Fault::FillDisk { host: "node1".into(), path: None })
        );
    }

    #[test]
    fn errors_show_the_right_form() {
        let error = |line: &str| parse(line).expect_err("wrong");
        assert!(error("explode node1").contains("power-off HOST"));
        assert!(error("stop").contains("stop HOST"));
        assert!(error("cut node1 -").contains("redirection"));
        assert!(error("cut node1 node1").contains("two different"));
        assert!(error("slow node1 soon").contains("milliseconds"));
        assert!(parse_fault(&[]).is_err());
    }
}
