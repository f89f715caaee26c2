//! The lab's network on this machine: a bridge per lab, a way out to the package mirror, cuts.
//!
//! A cut is a rule on the bridge, outside the hosts: it stays over a power-off, also covers
//! addresses that move (a VIP), and is invisible inside. IP packets are dropped without an answer and
//! ARP goes on, so to either side the other one is silent, as behind a router that lost its way.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use super::LabError;
use super::address::Link;
use super::command::{run, run_with_input, succeeds};
use super::store::{self, Lock, State, StoredHost};

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

pub(super) fn bridge(id: &str) -> String {
    format!("pgl{id}")
}

/// The host's end of its link, as systemd-nspawn names it: 15 characters at most.
pub(super) fn veth(id: &str, host: &StoredHost) -> String {
    format!("vb-{}", super::host::machine_name(id, host.index))
}

/// The IPv4 networks on this machine's interfaces.
pub(super) fn links() -> Result<Vec<Link>, LabError> {
    let text = run("listing this machine's addresses", &["ip", "-o", "-4", "address", "show"])?;
    Ok(text.lines().filter_map(parse_link).collect())
}

/// `2: eth0    inet 192.0.2.2/24 brd ...`
fn parse_link(line: &str) -> Option<Link> {
    let mut words = line.split_whitespace();
    let interface = words.nth(1)?.to_owned();
    let (address, prefix) = words.nth(1)?.split_once('/')?;
    Some(Link { interface, address: address.parse().ok()?, prefix: prefix.parse().ok()? })
}

/// Makes bridge, forwarding and rules where they lack; returns whether anything was made.
pub(super) fn ensure(state: &State) -> Result<bool, LabError> {
    let (id, bridge) = (state.id(), bridge(&state.id()));
    let mut changed = false;
    if !exists(&bridge) {
        let doing = "making the lab's bridge";
        run(doing, &["ip", "link", "add", "name", &bridge, "type", "bridge", "stp_state", "0"])?;
        changed = true;
    }
    if changed || !has_address(&bridge, state.gateway)? {
        let address = format!("{}/24", state.gateway);
        let doing = "setting the lab bridge's address";
        run(doing, &["ip", "address", "replace", &address, "dev", &bridge])?;
        run(doing, &["ip", "link", "set", "dev", &bridge, "up"])?;
    }
    forward()?;
    for rule in rules(&id, state.network()) {
        if !succeeds(&iptables("-C", &rule)) {
            run("letting lab hosts reach the package mirror", &iptables("-I", &rule))?;
            changed = true;
        }
    }
    if changed {
        render_cuts(state)?;
    }
    Ok(changed)
}

fn exists(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).exists()
}

fn has_address(bridge: &str, address: Ipv4Addr) -> Result<bool, LabError> {
    Ok(links()?.iter().any(|link| link.interface == bridge && link.address == address))
}

/// Rules with the lab's name as their comment: table, chain, and the rest.
fn rules(id: &str, network: Ipv4Addr) -> Vec<Vec<String>> {
    let (bridge, network) = (bridge(id), format!("{network}/24"));
    let texts = [
        format!("nat POSTROUTING -s {network} ! -d 198.18.0.0/15 -j MASQUERADE"),
        // Where the policy is DROP (Docker sets that), and for bridged packets under br_netfilter.
        format!("filter FORWARD -i {bridge} -j ACCEPT"),
        format!("filter FORWARD -o {bridge} -j ACCEPT"),
    ];
    let words = |text: String| {
        let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        words.extend(["-m", "comment", "--comment"].map(str::to_owned));
        words.push(comment(id));
        words
    };
    texts.into_iter().map(words).collect()
}

fn comment(id: &str) -> String {
    format!("pgorch-lab:{id}")
}

/// `iptables -w 10 -t TABLE VERB CHAIN rest...`
fn iptables(verb: &str, rule: &[String]) -> Vec<String> {
    let mut argv = ["iptables", "-w", "10", "-t"].map(str::to_owned).to_vec();
    argv.extend(rule.first().cloned());
    argv.push(verb.to_owned());
    argv.extend(rule.iter().skip(1).cloned());
    argv
}

/// Switches forwarding on; remembers that it was off, for the end of the last lab.
fn forward() -> Result<(), LabError> {
    let _lock = Lock::take("forwarding")?;
    let now = fs::read_to_string(FORWARD).map_err(LabError::io("read", FORWARD))?;
    if now.trim() != "0" {
        return Ok(());
    }
    let note = store::base_file("forwarding-was-off");
    fs::write(&note, "").map_err(LabError::io("write", &note))?;
    fs::write(FORWARD, "1").map_err(LabError::io("write", FORWARD))
}

/// Undoes [`forward`] once no lab is left, unless somebody else has come to rely on it.
pub(super) fn unforward() -> Result<(), LabError> {
    let _lock = Lock::take("forwarding")?;
    let note = store::base_file("forwarding-was-off");
    if !note.exists() || !store::entries(&store::labs_dir())?.is_empty() {
        return Ok(());
    }
    let interfaces = store::entries(Path::new("/sys/class/net"))?;
    if !interfaces.iter().any(|interface| interface.join("bridge").exists()) {
        fs::write(FORWARD, "0").map_err(LabError::io("write", FORWARD))?;
    }
    fs::remove_file(&note).map_err(LabError::io("remove", &note))
}

/// Removes everything of the lab with this id, whether or not its state is still known.
pub(super) fn remove(id: &str) -> Result<(), LabError> {
    let bridge = bridge(id);
    let veths = format!("vb-{}", super::host::machine_prefix(id));
    for interface in store::entries(Path::new("/sys/class/net"))? {
        let name = interface.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(&veths) || name == bridge {
            // nspawn's own end may be going away at this moment.
            let gone = succeeds(&["ip", "link", "delete", "dev", &name]) || !exists(&name);
            if !gone {
                run("removing a lab's interface", &["ip", "link", "delete", "dev", &name])?;
            }
        }
    }
    for table in ["nat", "filter"] {
        let listed =
            run("listing packet filter rules", &["iptables", "-w", "10", "-t", table, "-S"])?;
        for line in listed.lines().filter(|line| is_of(line, id)) {
            // As listed, with `-A` made `-D`; no word of ours needs quotes.
            let mut argv = ["iptables", "-w", "10", "-t", table, "-D"].map(str::to_owned).to_vec();
            argv.extend(line.split_whitespace().skip(1).map(|word| word.replace('"', "")));
            run("removing a lab's packet filter rule", &argv)?;
        }
    }
    if succeeds(&["nft", "list", "table", "bridge", &bridge]) {
        run("removing a lab's cuts", &["nft", "delete", "table", "bridge", &bridge])?;
    }
    Ok(())
}

fn is_of(line: &str, id: &str) -> bool {
    let words = line.split_whitespace().map(|word| word.trim_matches('"'));
    line.starts_with("-A ")
        && words.skip_while(|word| *word != "--comment").nth(1) == Some(&comment(id))
}

/// Makes the bridge's drop rules those of the state, in one transaction.
pub(super) fn render_cuts(state: &State) -> Result<(), LabError> {
    run_with_input("cutting the lab's links", &["nft", "-f", "-"], cut_rules(state)?.as_bytes())?;
    Ok(())
}

fn cut_rules(state: &State) -> Result<String, LabError> {
    let id = state.id();
    let table = bridge(&id);
    // The first line makes the second harmless where there is no such table yet.
    let mut text = format!("table bridge {table}\ndelete table bridge {table}\n");
    if state.cuts.is_empty() {
        return Ok(text);
    }
    let (mut between, mut inbound, mut outbound) = (String::new(), String::new(), String::new());
    let veth_of = |name: &str| Ok::<_, LabError>(veth(&id, state.host(name)?));
    for cut in &state.cuts {
        let gateway = state.gateway;
        match (cut.from.as_str(), cut.to.as_str()) {
            ("", to) => {
                let to = veth_of(to)?;
                outbound += &format!("    oifname \"{to}\" ip saddr {gateway} drop\n");
            }
            (from, "") => {
                let from = veth_of(from)?;
                inbound += &format!("    iifname \"{from}\" ip daddr {gateway} drop\n");
            }
            (from, to) => {
                let (from, to) = (veth_of(from)?, veth_of(to)?);
                between += &format!(
                    "    iifname \"{from}\" oifname \"{to}\" meta protocol {{ ip, ip6 }} drop\n"
                );
            }
        }
    }
    text += &format!("table bridge {table} {{\n");
    for (chain, hook, rules) in [
        ("between", "forward", between),
        ("inbound", "input", inbound),
        ("outbound", "output", outbound),
    ] {
        text += &format!(
            "  chain {chain} {{\n    type filter hook {hook} priority -300;\n{rules}  }}\n"
        );
    }
    text += "}\n";
    Ok(text)
}

/// Takes the host's cable out at once, so that its dying sockets can say nothing more.
pub(super) fn unplug(id: &str, host: &StoredHost) {
    let veth = veth(id, host);
    // Gone already when the host is not running, and then there is nothing to silence.
    let _ = succeeds(&["ip", "link", "set", "dev", &veth, "down"]);
}

/// Removes the link that a host left behind: the kernel takes a dead host's network namespace down when it
/// gets to it, which on a busy machine is after the next start.
pub(super) fn forget_link(id: &str, host: &StoredHost) {
    let veth = veth(id, host);
    if exists(&veth) {
        let _ = succeeds(&["ip", "link", "delete", "dev", &veth]);
    }
}

/// Delays or loses what travels to a running host; `None` ends that.
pub(super) fn slow(id: &str, host: &StoredHost) -> Result<(), LabError> {
    let veth = veth(id, host);
    let Some((delay, loss)) = host.slow else {
        // Fails when there is nothing to delete, which is what was wanted.
        let _ = succeeds(&["tc", "qdisc", "delete", "dev", &veth, "root"]);
        return Ok(());
    };
    let (delay, loss) = (format!("{delay}ms"), format!("{loss}%"));
    let argv =
        ["tc", "qdisc", "replace", "dev", &veth, "root", "netem", "delay", &delay, "loss", &loss];
    run("slowing the link (needs the kernel's netem)", &argv).map_err(|e| e.on_host(&host.name))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{is_of, parse_link};

    #[test]
    fn rules_are_known_by_their_whole_comment() {
        let line = "-A FORWARD -i pgl0a -m comment --comment \"pgorch-lab:0a\" -j ACCEPT";
        assert!(is_of(line, "0a") && is_of(&line.replace('"', ""), "0a"));
        assert!(!is_of(line, "0") && !is_of("-P FORWARD ACCEPT", "0a"));
    }

    #[test]
    fn interface_lines_are_read() {
        let line = "2: eth0    inet 192.0.2.2/24 brd 192.0.2.255 scope global eth0";
        let link = parse_link(line).expect("an address");
        assert_eq!((link.interface.as_str(), link.prefix), ("eth0", 24));
    }
}
