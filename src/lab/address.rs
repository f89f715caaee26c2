//! Who gets which address: pure, over what other labs and this machine's interfaces have.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::store::{State, StoredHost, network_of};
use super::{LabError, Spec};

/// An IPv4 network on an interface of this machine.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) interface: String,
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
}

impl Link {
    fn overlaps(&self, network: Ipv4Addr) -> bool {
        let bits = u32::from(self.prefix.min(24));
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        self.address.to_bits() & mask == network.to_bits() & mask
    }
}

/// Whether an address is in 198.18.0.0/15, which is set aside for tests (RFC 2544).
pub(super) fn in_lab_range(address: Ipv4Addr) -> bool {
    matches!(address.octets(), [198, 18 | 19, ..])
}

/// The state of the lab with all hosts of `spec`: known hosts keep what they have.
pub(super) fn assign(
    spec: &Spec,
    known: Option<State>,
    others: &[State],
    links: &[Link],
) -> Result<State, LabError> {
    let mut state = match known {
        Some(state) => state,
        None => State {
            schema: 1,
            key: spec.key.clone(),
            image: spec.image.clone(),
            gateway: gateway(spec, others, links)?,
            hosts: Vec::new(),
            cuts: std::collections::BTreeSet::new(),
        },
    };
    if state.image != spec.image {
        return Err(again(format!("this lab's image is {}, not {}", state.image, spec.image)));
    }
    for wanted in spec.hosts.iter().filter(|host| host.address.is_some()) {
        place(&mut state, &wanted.name, wanted.address, others)?;
    }
    for wanted in spec.hosts.iter().filter(|host| host.address.is_none()) {
        place(&mut state, &wanted.name, None, others)?;
    }
    let order = |name: &str| spec.hosts.iter().position(|host| host.name == name);
    state.hosts.sort_by_key(|host| (order(&host.name).unwrap_or(usize::MAX), host.index));
    Ok(state)
}

fn again(fact: String) -> LabError {
    LabError::BadSpec {
        message: format!("{fact}\n`pgorch lab down`, then `pgorch lab up` makes it anew"),
    }
}

fn place(
    state: &mut State,
    name: &str,
    fixed: Option<Ipv4Addr>,
    others: &[State],
) -> Result<(), LabError> {
    if let Some(host) = state.hosts.iter().find(|host| host.name == name) {
        return match fixed {
            Some(address) if address != host.address => {
                Err(again(format!("{name} has {} in this lab, not {address}", host.address)))
            }
            _ => Ok(()),
        };
    }
    let taken = |address: Ipv4Addr| {
        address == state.gateway || state.hosts.iter().any(|host| host.address == address)
    };
    let address = match fixed {
        Some(address) if network_of(address) != state.network() => {
            if let Some(owner) = owner_of(address, others) {
                return Err(taken_by(name, address, owner));
            }
            return Err(again(format!(
                "{name}: {address} is not in this lab's network {}/24: all hosts of a lab share one",
                state.network()
            )));
        }
        Some(address) if taken(address) => {
            return Err(again(format!("{name}: {address} is taken inside this lab")));
        }
        Some(address) => address,
        // From .11, as people number hosts; then whatever is left.
        None => (11..=250)
            .chain(2..11)
            .map(|last| Ipv4Addr::from_bits(state.network().to_bits() + last))
            .find(|address| !taken(*address))
            .ok_or(LabError::NoFreeNetwork)?,
    };
    let index = (1..=99).find(|index| state.hosts.iter().all(|host| host.index != *index));
    let index = index.ok_or_else(|| again("a lab has 99 hosts at most".to_owned()))?;
    let image = PathBuf::new();
    state.hosts.push(StoredHost { name: name.to_owned(), index, address, image, slow: None });
    Ok(())
}

fn owner_of(address: Ipv4Addr, others: &[State]) -> Option<&State> {
    others.iter().find(|lab| lab.network() == network_of(address))
}

fn taken_by(name: &str, address: Ipv4Addr, owner: &State) -> LabError {
    LabError::AddressTaken { host: name.to_owned(), address, owner: owner.key.to_string() }
}

/// The bridge's address of a new lab, in the /24 of the fixed addresses or in a free one.
fn gateway(spec: &Spec, others: &[State], links: &[Link]) -> Result<Ipv4Addr, LabError> {
    let fixed: Vec<(&str, Ipv4Addr)> =
        spec.hosts.iter().filter_map(|host| Some((host.name.as_str(), host.address?))).collect();
    let network = match fixed.first() {
        Some((name, address)) => {
            let network = network_of(*address);
            if let Some(owner) = owner_of(*address, others) {
                return Err(taken_by(name, *address, owner));
            }
            if let Some(link) = links.iter().find(|link| link.overlaps(network)) {
                return Err(LabError::AddressOnMachine {
                    host: (*name).to_owned(),
                    address: *address,
                    interface: link.interface.clone(),
                    network: format!("{}/{}", link.address, link.prefix),
                });
            }
            network
        }
        None => free_network(others, links)?,
    };
    let last = |last: u32| Ipv4Addr::from_bits(network.to_bits() + last);
    let is_free = |address: &Ipv4Addr| fixed.iter().all(|(_, fixed)| fixed != address);
    Ok([last(1), last(254)].into_iter().find(is_free).unwrap_or(last(253)))
}

/// Automatic labs begin at 198.19.0.0/24: written inventories tend to name 198.18.0.x.
fn free_network(others: &[State], links: &[Link]) -> Result<Ipv4Addr, LabError> {
    let candidates = [19u8, 18]
        .into_iter()
        .flat_map(|second| (0..=255u8).map(move |third| Ipv4Addr::new(198, second, third, 0)));
    let mut free = candidates.filter(|network| {
        owner_of(*network, others).is_none() && !links.iter().any(|link| link.overlaps(*network))
    });
    free.next().ok_or(LabError::NoFreeNetwork)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::{HostSpec, LabError, LabKey, Spec};
    use super::{Link, State, assign};

    fn spec(key: &str, hosts: &[(&str, Option<[u8; 4]>)]) -> Spec {
        let host = |(name, address): &(&str, Option<[u8; 4]>)| HostSpec {
            name: (*name).to_owned(),
            address: address.map(Ipv4Addr::from),
        };
        Spec::new(LabKey::named(key), "bookworm", hosts.iter().map(host).collect())
    }

    fn addresses(state: &State) -> Vec<String> {
        state.hosts.iter().map(|host| host.address.to_string()).collect()
    }

    #[test]
    fn two_labs_get_two_networks_and_keep_them() {
        let hosts = [("node1", None), ("node2", None)];
        let one = assign(&spec("/a", &hosts), None, &[], &[]).expect("free");
        let two = assign(&spec("/b", &hosts), None, std::slice::from_ref(&one), &[]).expect("free");
        assert_eq!(addresses(&one), ["198.19.0.11", "198.19.0.12"]);
        assert_eq!(addresses(&two), ["198.19.1.11", "198.19.1.12"]);
        let more = [("node3", None), ("node1", None), ("node2", None)];
        let grown = assign(&spec("/a", &more), Some(one), &[two], &[]).expect("same");
        assert_eq!(addresses(&grown), ["198.19.0.13", "198.19.0.11", "198.19.0.12"]);
    }

    #[test]
    fn fixed_addresses_are_kept_and_never_shared() {
        let hosts = [("a", None), ("b", Some([198, 18, 0, 11])), ("c", Some([198, 18, 0, 1]))];
        let one = assign(&spec("/a.yml", &hosts), None, &[], &[]).expect("free");
        assert_eq!(addresses(&one), ["198.18.0.12", "198.18.0.11", "198.18.0.1"]);
        assert_eq!(one.gateway, Ipv4Addr::new(198, 18, 0, 254));
        let other = spec("/b.yml", &[("x", Some([198, 18, 0, 50]))]);
        let error = assign(&other, None, &[one], &[]).expect_err("taken");
        assert!(error.to_string().contains("the lab of /a.yml has it"), "{error}");
    }

    #[test]
    fn networks_of_this_machine_are_left_alone() {
        let link =
            Link { interface: "eth1".into(), address: Ipv4Addr::new(198, 19, 0, 9), prefix: 23 };
        let links = [link];
        let auto = assign(&spec("/a", &[("x", None)]), None, &[], &links).expect("free");
        assert_eq!(addresses(&auto), ["198.19.2.11"]);
        let fixed = spec("/a", &[("x", Some([198, 19, 1, 5]))]);
        let error = assign(&fixed, None, &[], &links).expect_err("on the machine");
        assert!(matches!(error, LabError::AddressOnMachine { .. }), "{error}");
    }

    #[test]
    fn a_changed_address_or_image_needs_a_new_lab() {
        let one = assign(&spec("/a", &[("x", None)]), None, &[], &[]).expect("free");
        let moved = spec("/a", &[("x", Some([198, 19, 0, 77]))]);
        assert!(assign(&moved, Some(one.clone()), &[], &[]).is_err());
        let mut trixie = spec("/a", &[("x", None)]);
        "trixie".clone_into(&mut trixie.image);
        assert!(assign(&trixie, Some(one), &[], &[]).is_err());
    }
}
