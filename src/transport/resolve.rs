//! From the inventory, the command line and `~/.ssh/config` to a [`Target`].

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use crate::clock::Clock;
use crate::inventory::SshSettings;
use crate::model::Secret;

use super::config::{self, AskError, SshConfig};
use super::target::{Become, HostKeys, Identity, Target, Timeouts};

/// Jump hosts in a row. A configuration that jumps in a circle ends here.
const LONGEST_CHAIN: usize = 8;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is read of this process's surroundings.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub home: PathBuf,
    pub user: String,
    /// `SSH_AUTH_SOCK`.
    pub agent: Option<PathBuf>,
    /// The OpenSSH client, for `ssh -G`.
    pub ssh: PathBuf,
    pub system_config: PathBuf,
}

impl Surroundings {
    /// Of this process. Reads environment variables.
    #[must_use]
    pub fn of_process() -> Self {
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty());
        let user = var("USER").or_else(|| var("LOGNAME"));
        Surroundings {
            home: var("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from),
            user: user.map_or_else(|| "root".to_owned(), |u| u.to_string_lossy().into_owned()),
            agent: var("SSH_AUTH_SOCK").map(PathBuf::from),
            ssh: PathBuf::from("ssh"),
            system_config: PathBuf::from("/etc/ssh/ssh_config"),
        }
    }
}

/// The command line's part. It applies where the inventory says nothing; `accept_new` always.
#[derive(Debug, Clone, Default)]
pub struct CommandLine {
    /// `-u`
    pub user: Option<String>,
    /// `--private-key`
    pub identity_file: Option<String>,
    /// `-k`
    pub password: Option<Secret>,
    /// `-b`/`--become`
    pub r#become: Option<bool>,
    /// `-K`
    pub become_password: Option<Secret>,
    pub accept_new: bool,
    pub connect_timeout: Option<Duration>,
}

/// One host as the inventory has it.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    pub name: &'a str,
    /// `host:` of the inventory, or an alias of `~/.ssh/config`.
    pub address: &'a str,
    /// From the most special: the host's own settings, then the inventory's.
    pub layers: &'a [&'a SshSettings],
    /// The inventory's secrets, resolved.
    pub password: Option<Secret>,
    pub become_password: Option<Secret>,
}

/// The settings of a host do not make a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("{host}: `ssh -G` failed ({cause}); correct ~/.ssh/config, or set `ssh_config: false`")]
    SshConfig { host: String, cause: String },
    #[error(
        "{host}: ~/.ssh/config asks for a ProxyCommand, which pgorch does not run; use ProxyJump, \
         or `ssh: {{proxy_jump: HOST}}`"
    )]
    ProxyCommand { host: String },
    #[error("{host}: \"{text}\" is not a jump host ([user@]host[:port], comma between several)")]
    BadJump { host: String, text: String },
    #[error("{host}: \"{text}\" is not a host name or address")]
    BadAddress { host: String, text: String },
    #[error("{host}: more than {LONGEST_CHAIN} jump hosts in a row; do they jump in a circle?")]
    TooManyJumps { host: String },
}

/// Makes [`Target`]s. One per run: it looks once whether `~/.ssh/config` matters at all.
#[derive(Debug, Clone)]
pub struct Resolver {
    clock: Clock,
    around: Surroundings,
    line: CommandLine,
    ask: bool,
}

impl Resolver {
    #[must_use]
    pub fn new(clock: Clock, around: Surroundings, line: CommandLine) -> Self {
        let user_config = around.home.join(".ssh/config");
        let ask = config::files_matter(&user_config, &around.system_config);
        Resolver { clock, around, line, ask }
    }

    /// All hosts at once; each may cost an `ssh -G`, and those run side by side.
    pub async fn resolve_all(&self, hosts: &[Wanted<'_>]) -> Vec<Result<Target, ResolveError>> {
        futures_util::future::join_all(hosts.iter().map(|host| self.resolve(host))).await
    }

    /// One host.
    ///
    /// # Errors
    /// [`ResolveError`]; nothing was connected to.
    pub async fn resolve(&self, host: &Wanted<'_>) -> Result<Target, ResolveError> {
        let name = host.name.to_owned();
        let user = pick(host.layers, |s| s.user.clone()).or_else(|| self.line.user.clone());
        let port = pick(host.layers, |s| s.port);
        let config = self.config(host, host.address, user.as_deref(), port).await?;
        let mut target = self.base(host, &config, host.address, user, port);
        target.name = name.clone();
        target.password = host.password.clone().or_else(|| self.line.password.clone());
        let r#become = pick(host.layers, |s| s.r#become).or(self.line.r#become);
        if r#become == Some(true) && target.user != "root" {
            let password = host.become_password.clone();
            target.r#become = Become::sudo(password.or_else(|| self.line.become_password.clone()));
        }
        let own_jump = pick(host.layers, |s| s.proxy_jump.clone());
        let jump = match own_jump {
            Some(none) if none == "none" => None,
            None if config.proxy_jump.is_none() && config.proxy_command.is_some() => {
                return Err(ResolveError::ProxyCommand { host: name });
            }
            own => own.or(config.proxy_jump),
        };
        if let Some(jump) = jump {
            target.jump = self.chain(host, jump, target.user.clone(), 1).await?;
        }
        Ok(target)
    }

    /// The last jump host of `a,b,c`, which has `b` as its own, and so on. The first one may jump
    /// further by its own configuration.
    fn chain<'a>(
        &'a self,
        host: &'a Wanted<'a>,
        list: String,
        login: String,
        depth: usize,
    ) -> BoxFuture<'a, Result<Option<Box<Target>>, ResolveError>> {
        Box::pin(async move {
            let name = host.name.to_owned();
            if depth > LONGEST_CHAIN || list.split(',').count() > LONGEST_CHAIN {
                return Err(ResolveError::TooManyJumps { host: name });
            }
            let mut chain: Option<Box<Target>> = None;
            for text in list.split(',').map(str::trim) {
                let Some((user, address, port)) = parse_jump(text) else {
                    let text = text.to_owned();
                    return Err(ResolveError::BadJump { host: name, text });
                };
                let config = self.config(host, &address, user.as_deref(), port).await?;
                // `ssh -G` always names a user; one that is not ours was configured.
                let configured = config.user.clone().filter(|u| *u != self.around.user);
                let user = user.or(configured).or_else(|| Some(login.clone()));
                let mut hop = self.base(host, &config, &address, user, port);
                hop.name = text.to_owned();
                hop.jump = match (chain, config.proxy_jump) {
                    (None, Some(more)) => self.chain(host, more, login.clone(), depth + 1).await?,
                    (before, _) => before,
                };
                chain = Some(Box::new(hop));
            }
            Ok(chain)
        })
    }

    /// What `ssh -G` says, or nothing where it need not be asked.
    async fn config(
        &self,
        host: &Wanted<'_>,
        address: &str,
        user: Option<&str>,
        port: Option<u16>,
    ) -> Result<SshConfig, ResolveError> {
        let name = || host.name.to_owned();
        if address.is_empty() || address.starts_with('-') || address.contains(char::is_whitespace) {
            return Err(ResolveError::BadAddress { host: name(), text: address.to_owned() });
        }
        if !self.ask || pick(host.layers, |s| s.ssh_config) == Some(false) {
            return Ok(SshConfig::default());
        }
        match config::ask(self.clock, &self.around.ssh, address, user, port).await {
            Ok(config) => Ok(config),
            Err(AskError::NoProgram) => Ok(SshConfig::default()),
            Err(AskError::Failed(cause)) => Err(ResolveError::SshConfig { host: name(), cause }),
        }
    }

    /// Everything but name, passwords, becoming and jumping.
    fn base(
        &self,
        host: &Wanted<'_>,
        config: &SshConfig,
        address: &str,
        user: Option<String>,
        port: Option<u16>,
    ) -> Target {
        let user = user.or_else(|| config.user.clone()).unwrap_or_else(|| self.around.user.clone());
        let dial = config.hostname.clone().unwrap_or_else(|| address.to_owned());
        let mut target = Target::new(host.name, &dial, &user);
        target.port = port.or(config.port).unwrap_or(22);
        let path = |text: &str| config::expand(text, &self.around.home, &dial, &user, target.port);
        target.identities = self.identities(host.layers, config, &path);
        target.certificates = config.certificate_files.iter().map(|f| path(f)).collect();
        target.known_hosts = self.known_hosts(host.layers, config, &path);
        target.identities_only = config.identities_only;
        target.agent = self.agent(config, &path);
        target.host_key_alias = config.host_key_alias.clone();
        target.host_keys =
            if self.line.accept_new { HostKeys::AcceptNew } else { HostKeys::Strict };
        let seconds = pick(host.layers, |s| s.connect_timeout_seconds).map(Duration::from_secs);
        target.timeouts.connect = seconds
            .or(self.line.connect_timeout)
            .or(config.connect_timeout)
            .unwrap_or(Timeouts::default().connect);
        target
    }

    /// A key that the inventory or the command line names stands alone, as with `ssh -i`; else
    /// ssh's list, else the usual names.
    fn identities(
        &self,
        layers: &[&SshSettings],
        config: &SshConfig,
        path: &dyn Fn(&str) -> PathBuf,
    ) -> Vec<Identity> {
        let named = pick(layers, |s| s.identity_file.clone());
        match named.or_else(|| self.line.identity_file.clone()) {
            Some(file) => vec![Identity::explicit(path(&file))],
            None if config.identity_files.is_empty() => {
                let usual = ["~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"];
                usual.iter().map(|f| Identity::usual(path(f))).collect()
            }
            None => config.identity_files.iter().map(|f| Identity::usual(path(f))).collect(),
        }
    }

    /// The inventory's file instead of the user's; the system's count as well, as in ssh.
    fn known_hosts(
        &self,
        layers: &[&SshSettings],
        config: &SshConfig,
        path: &dyn Fn(&str) -> PathBuf,
    ) -> Vec<PathBuf> {
        let or = |given: &[String], usual: &[&str]| -> Vec<PathBuf> {
            if given.is_empty() {
                usual.iter().map(|f| path(f)).collect()
            } else {
                given.iter().map(|f| path(f)).collect()
            }
        };
        let mut files = match pick(layers, |s| s.known_hosts.clone()) {
            Some(file) => vec![path(&file)],
            None => or(&config.user_known_hosts, &["~/.ssh/known_hosts", "~/.ssh/known_hosts2"]),
        };
        let system = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];
        files.extend(or(&config.global_known_hosts, &system));
        files
    }

    fn agent(&self, config: &SshConfig, path: &dyn Fn(&str) -> PathBuf) -> Option<PathBuf> {
        match config.identity_agent.as_deref() {
            None | Some("SSH_AUTH_SOCK") => self.around.agent.clone(),
            Some("none") => None,
            Some(text) => match text.strip_prefix('$') {
                Some(name) => std::env::var_os(name.trim_matches(['{', '}'])).map(PathBuf::from),
                None => Some(path(text)),
            },
        }
    }
}

/// The first layer that says something.
fn pick<T>(layers: &[&SshSettings], field: impl Fn(&SshSettings) -> Option<T>) -> Option<T> {
    layers.iter().find_map(|layer| field(layer))
}

/// `[user@]host[:port]`, `[user@][v6]:port`, or the same with `ssh://` before it.
fn parse_jump(text: &str) -> Option<(Option<String>, String, Option<u16>)> {
    let text = text.strip_prefix("ssh://").unwrap_or(text).trim_end_matches('/');
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, text),
    };
    let (host, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':')?)),
        None if rest.matches(':').count() == 1 => {
            rest.split_once(':').map(|(h, p)| (h, Some(p)))?
        }
        None => (rest, None),
    };
    let port = port.map(str::parse).transpose().ok()?;
    let empty = host.is_empty() || user.as_deref() == Some("");
    (!empty).then(|| (user, host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::parse_jump;

    #[test]
    fn jump_hosts() {
        let some = |user: Option<&str>, host: &str, port| {
            Some((user.map(str::to_owned), host.to_owned(), port))
        };
        assert_eq!(parse_jump("bastion"), some(None, "bastion", None));
        assert_eq!(parse_jump("ada@b:2222"), some(Some("ada"), "b", Some(2222)));
        assert_eq!(parse_jump("ssh://ada@[fe80::1]:22/"), some(Some("ada"), "fe80::1", Some(22)));
        assert_eq!(parse_jump("fe80::1"), some(None, "fe80::1", None));
        for bad in ["", "@b", "b:x", "ada@"] {
            assert_eq!(parse_jump(bad), None, "{bad}");
        }
    }
}
