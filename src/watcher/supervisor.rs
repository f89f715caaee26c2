//! The service manager that started the watch, if one did: told that it is ready, and fed each time
//! that a round has ended, so that a loop which stands still is ended and begun anew (sd_notify(3)).

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// None of it where there is no service manager.
#[derive(Debug, Default)]
pub struct Supervisor {
    to: Option<(UnixDatagram, SocketAddr)>,
    ready: bool,
    status: String,
}

impl Supervisor {
    /// The one that `$NOTIFY_SOCKET` names.
    #[must_use]
    pub fn of_process() -> Self {
        Self::at(std::env::var_os("NOTIFY_SOCKET"))
    }

    /// The one that listens at this path, or under this abstract name (`@...`).
    #[must_use]
    pub fn at(path: Option<OsString>) -> Self {
        let to = path.and_then(|path| {
            let address = address(&path)?;
            let socket = UnixDatagram::unbound().ok()?;
            // Who does not take the message in time is not waited for.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        Supervisor { to, ..Supervisor::default() }
    }

    fn say(&self, text: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }

    /// A round has ended: `headline` is what it came to.
    pub(super) fn round(&mut self, headline: &str) {
        let mut text = String::from("WATCHDOG=1\n");
        if !std::mem::replace(&mut self.ready, true) {
            text.push_str("READY=1\n");
        }
        if self.status != headline {
            self.status = headline.to_owned();
            text.push_str(&format!("STATUS={}\n", headline.replace('\n', " ")));
        }
        self.say(&text);
    }

    pub(super) fn stopping(&self) {
        self.say("STOPPING=1\n");
    }
}

fn address(path: &OsStr) -> Option<SocketAddr> {
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None if path.is_empty() => None,
        None => SocketAddr::from_pathname(path).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let count = socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    #[test]
    fn it_is_ready_with_the_first_round_and_fed_with_each() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let listening = UnixDatagram::bind(&path).expect("a socket");
        listening.set_nonblocking(true).expect("set");
        let mut supervisor = Supervisor::at(Some(path.into_os_string()));
        assert!(listening.recv(&mut [0; 16]).is_err(), "nothing is said before a round");
        supervisor.round("watching");
        assert_eq!(read(&listening), "WATCHDOG=1\nREADY=1\nSTATUS=watching\n");
        supervisor.round("watching");
        assert_eq!(read(&listening), "WATCHDOG=1\n");
        supervisor.round("a\nREADY=1");
        assert_eq!(read(&listening), "WATCHDOG=1\nSTATUS=a READY=1\n");
        supervisor.stopping();
        assert_eq!(read(&listening), "STOPPING=1\n");
    }

    #[test]
    fn an_abstract_name_is_understood() {
        let name = format!("pgorch-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let listening = UnixDatagram::bind_addr(&address).expect("a socket");
        Supervisor::at(Some(format!("@{name}").into())).stopping();
        assert_eq!(read(&listening), "STOPPING=1\n");
    }

    #[test]
    fn nobody_there_is_no_error() {
        let mut supervisor = Supervisor::at(Some("/nonexistent/notify".into()));
        supervisor.round("watching");
        Supervisor::at(None).stopping();
        Supervisor::at(Some(String::new().into())).stopping();
    }
}
