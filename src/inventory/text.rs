//! Small texts with a form of their own: names, addresses, paths.
//!
//! Each check gives the value, or what is wrong with it in a few words.

use std::net::{IpAddr, Ipv4Addr};

/// Words with a meaning in host patterns; nothing in an inventory may be called so.
pub(super) const RESERVED: &[&str] = &[
    "all",
    "nodes",
    "witnesses",
    "hosts",
    "poolers",
    "primary",
    "standbys",
    "candidate",
    "cascaded",
];

/// A cluster name: `[a-z][a-z0-9_-]*`, at most 40 characters.
pub(super) fn cluster_name(text: &str) -> Result<(), &'static str> {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        Err("must begin with a lower-case letter")
    } else if !text.chars().all(rest) {
        Err("takes lower-case letters, digits, \"-\" and \"_\" only")
    } else if text.len() > 40 {
        Err("must not be longer than 40 characters")
    } else {
        Ok(())
    }
}

/// The name of a host or group: `[A-Za-z0-9][A-Za-z0-9_.-]*`, at most 63 characters, no keyword.
pub(super) fn name(text: &str) -> Result<(), &'static str> {
    let rest = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Err("must begin with a letter or digit")
    } else if !text.chars().all(rest) {
        Err("takes letters, digits, \"-\", \"_\" and \".\" only")
    } else if text.len() > 63 {
        Err("must not be longer than 63 characters")
    } else if RESERVED.contains(&text) {
        Err("is a word with a meaning in host patterns")
    } else {
        Ok(())
    }
}

/// Text without line breaks and the like.
pub(super) fn one_line(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.chars().any(char::is_control) {
        Err("must not be empty, nor contain control characters")
    } else {
        Ok(())
    }
}

/// `http://` or `https://`, and a host at least.
pub(super) fn web_address(text: &str) -> Result<(), &'static str> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let good = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c);
    match rest {
        None => Err("an address that begins with https:// or http://"),
        Some(rest) if rest.is_empty() || rest.starts_with(['/', ':', '?', '#']) => {
            Err("an address with a host in it")
        }
        Some(rest) if !rest.chars().all(good) => Err("an address without blanks and the like"),
        Some(_) => Ok(()),
    }
}

/// The name of an account of the operating system.
pub(super) fn account(text: &str) -> Result<(), &'static str> {
    let rest = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(rest) {
        Ok(())
    } else {
        Err("an account of the host, like postgres")
    }
}

/// An address to dial: IPv4, IPv6 without brackets, or a host name (RFC 1123).
pub(super) fn address(text: &str) -> Result<(), String> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if let Some((user, _)) = text.split_once('@') {
        return Err(format!("write the user apart: ssh: {{user: {user}}}"));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
        && !host.contains(':')
    {
        return Err(format!("write the port apart: ssh: {{port: {port}}}"));
    }
    if text.starts_with('[') {
        return Err("write an IPv6 address without brackets".to_owned());
    }
    if text.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err("an IPv4 address has four numbers from 0 to 255".to_owned());
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if text.len() > 253 || !text.trim_end_matches('.').split('.').all(label) {
        return Err("a host name takes letters, digits, \"-\" and \".\"".to_owned());
    }
    Ok(())
}

/// An absolute path that may be created, filled and one day removed.
pub(super) fn data_dir(text: &str) -> Result<(), &'static str> {
    const SYSTEM: &[&str] = &[
        "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt",
        "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib",
        "/var/log",
    ];
    absolute(text)?;
    let path = text.trim_end_matches('/');
    if path.is_empty() || SYSTEM.contains(&path) {
        return Err("must be a directory of its own, not one that the system needs");
    }
    Ok(())
}

/// The name of a network interface: what the kernel takes (dev_valid_name), without what a shell or
/// `ip` would read as something else.
pub(super) fn interface(text: &str) -> Result<(), &'static str> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.is_empty() || text.len() > 15 || !text.chars().all(good) || text.starts_with(['-', '.'])
    {
        Err(
            "the name of a network interface, like eth0: at most 15 letters, digits, \".\", \"_\", \"-\"",
        )
    } else {
        Ok(())
    }
}

/// An absolute path without `..` and control characters.
pub(super) fn absolute(text: &str) -> Result<(), &'static str> {
    if !text.starts_with('/') {
        Err("must be an absolute path")
    } else if text.split('/').any(|part| part == "..") {
        Err("must not contain \"..\"")
    } else if text.chars().any(char::is_control) {
        Err("must not contain control characters")
    } else {
        Ok(())
    }
}

/// A configuration parameter's name; a dot makes it an extension's (manual, 20.16).
pub(super) fn parameter_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.$".contains(c))
}

/// The length of the prefix that a netmask like 255.255.0.0 stands for.
pub(super) fn netmask_prefix(mask: &str) -> Option<u32> {
    let bits = u32::from(mask.parse::<Ipv4Addr>().ok()?);
    (bits.leading_ones() + bits.trailing_zeros() >= 32).then(|| bits.leading_ones())
}

/// `ADDRESS/BITS` with as many bits as the family has at most.
pub(super) fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    match (address.parse::<IpAddr>(), bits.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(bits)) => bits <= 32,
        (Ok(IpAddr::V6(_)), Ok(bits)) => bits <= 128,
        _ => false,
    }
}
