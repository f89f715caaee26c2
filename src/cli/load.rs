//! From arguments to what a run needs: inventory, lab, secrets, targets, playbook.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::{IndexMap, IndexSet};
use tokio::sync::watch;

use super::args::Common;
use super::error::CliError;
use super::extra::{ExtraVars, extra_vars};
use super::secrets::Needed;
use super::{lab as lab_command, secrets};
use crate::clock;
use crate::event::Sink;
use crate::inventory::{self, Inventory, LiveRoles, SecretRef, match_hosts, uses_live_roles};
use crate::journal::Journal;
use crate::lab::{self, Lab as LabHosts, LabKey};
use crate::model::{HostName, Redactor, Secret};
use crate::plan::RunVars;
use crate::playbook::{Playbook, Segment, segments};
use crate::runner::{Link, Runner, Selection};
use crate::syntax::{Source, render};
use crate::transport::{
    self, Become, CommandLine, Identity, Resolver, Surroundings, Target, Transport, Wanted,
};
use crate::ui::{Printer, Verbosity};

/// What to do about the hosts of an inventory with `lab:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lab {
    /// Make them (`apply`).
    Up,
    /// They must be there.
    Find,
    /// No host is asked for anything.
    Unneeded,
}

/// Everything about the hosts, before the first connection.
pub(super) struct Prepared {
    pub(super) inventory: Arc<Inventory>,
    pub(super) redactor: Redactor,
    /// The run's id.
    pub(super) run: String,
    /// The inventory file.
    pub(super) path: PathBuf,
    /// Where relative `src:` paths are looked for.
    pub(super) file_roots: Vec<PathBuf>,
    hosts: Vec<HostName>,
    /// Every node is looked at, whatever the hosts are and the playbook says.
    pub(super) look_at_all: bool,
    pub(super) extra: ExtraVars,
    lab: Option<LabHosts>,
}

/// The inventory of the environment or the working directory.
pub(super) fn default_inventory() -> Option<PathBuf> {
    let named = std::env::var_os("PGORCH_INVENTORY").map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from("inventory.yml")).filter(|p| p.exists()))
}

/// The one inventory that is meant: the argument, `-i`, or a default.
pub(super) fn find(common: &Common, file: Option<PathBuf>) -> Result<PathBuf, CliError> {
    if let (Some(file), [given, ..]) = (&file, common.inventory.as_slice())
        && file != given
    {
        let (file, given) = (file.display(), given.display());
        return Err(CliError::usage(format!("two inventories: {file}, and -i {given}"))
            .hint("leave one of them out"));
    }
    if common.inventory.len() > 1 {
        return Err(CliError::usage("this command takes one inventory; one file is one cluster"));
    }
    let named = file.or_else(|| common.inventory.first().cloned()).or_else(default_inventory);
    if let Some(path) = named {
        if path.is_dir() {
            let text = format!("{} is a directory; this command takes one file", path.display());
            return Err(CliError::usage(text).hint("one file is one cluster"));
        }
        return Ok(path);
    }
    let labs = lab::list().unwrap_or_default();
    if let [only] = labs.as_slice()
        && Path::new(only.key.as_str()).exists()
    {
        Printer.err(&format!("using the inventory of the lab that is up: {}\n", only.key));
        return Ok(PathBuf::from(only.key.as_str()));
    }
    Err(CliError::usage("no inventory")
        .hint("name one with -i FILE, set PGORCH_INVENTORY, or write one with `pgorch init`"))
}

/// All inventories that are meant: `-i` repeats, and names a directory or a file.
pub(super) fn find_all(common: &Common) -> Result<Vec<PathBuf>, CliError> {
    let mut all = Vec::new();
    for given in &common.inventory {
        if !given.is_dir() {
            all.push(given.clone());
            continue;
        }
        let unreadable = |e| CliError::usage(format!("cannot read {}: {e}", given.display()));
        let entries = std::fs::read_dir(given).map_err(unreadable)?;
        let is_yaml = |p: &PathBuf| p.extension().is_some_and(|e| e == "yml" || e == "yaml");
        let mut files: Vec<PathBuf> =
            entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| is_yaml(p)).collect();
        if files.is_empty() {
            return Err(CliError::usage(format!("no *.yml in the directory {}", given.display())));
        }
        files.sort();
        all.extend(files);
    }
    if all.is_empty() {
        all.push(find(common, None)?);
    }
    Ok(all)
}

/// These options for one of several inventories.
pub(super) fn with_inventory(common: &Common, path: &Path) -> Common {
    Common { inventory: vec![path.to_owned()], ..common.clone() }
}

/// Reads and checks an inventory file; warnings go to standard error.
pub(super) fn inventory_file(path: &Path) -> Result<(Inventory, Arc<Source>), CliError> {
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(path, &e))?;
    let source = Source::new(path.to_string_lossy(), text);
    let (inventory, warnings) =
        inventory::parse(&source).map_err(|all| CliError::diagnostics(&all))?;
    if !warnings.is_empty() {
        Printer.err(&render(&warnings));
    }
    Ok((inventory, source))
}

fn unreadable(path: &Path, error: &std::io::Error) -> CliError {
    let shown = path.display();
    match error.kind() {
        std::io::ErrorKind::NotFound => CliError::usage(format!("there is no inventory {shown}"))
            .hint("`pgorch init` writes a first one"),
        std::io::ErrorKind::InvalidData => {
            CliError::usage(format!("the inventory {shown} is no text")).hint("it must be UTF-8")
        }
        _ => CliError::usage(format!("cannot read the inventory {shown}: {error}")),
    }
}

/// Reads everything that a playbook on hosts needs.
pub(super) fn prepare(
    common: &Common,
    file: Option<PathBuf>,
    lab: Lab,
) -> Result<Prepared, CliError> {
    prepare_for(common, file, lab, Needed::Playbook)
}

/// The same, and what it takes to tell people.
pub(super) fn prepare_to_watch(common: &Common) -> Result<Prepared, CliError> {
    prepare_for(common, None, Lab::Find, Needed::Watch)
}

/// Reads what it takes to look at hosts: no more secrets than those of the logins.
pub(super) fn prepare_to_look(
    common: &Common,
    file: Option<PathBuf>,
) -> Result<Prepared, CliError> {
    prepare_for(common, file, Lab::Find, Needed::Login)
}

fn prepare_for(
    common: &Common,
    file: Option<PathBuf>,
    lab: Lab,
    needed: Needed,
) -> Result<Prepared, CliError> {
    let path = find(common, file)?;
    let (mut inventory, _) = inventory_file(&path)?;
    let redactor = Redactor::default();
    let extra = extra_vars(&common.extra_vars, &redactor)?;
    let lab_hosts = match &inventory.lab {
        None => None,
        Some(_) if lab == Lab::Unneeded => None,
        Some(_) => Some(lab_of(&path, &inventory, lab)?),
    };
    if let Some(lab) = &lab_hosts {
        put_addresses(&path, &mut inventory, lab)?;
    }
    if lab != Lab::Unneeded {
        inventory = secrets::resolve(common, inventory, &path, needed, &redactor)?;
    }
    if common.r#become {
        inventory.ssh.r#become = Some(true);
    }
    let hosts = limited(common, &inventory)?;
    let dir = path.parent().map(Path::to_owned).unwrap_or_default();
    Ok(Prepared {
        inventory: Arc::new(inventory),
        redactor,
        run: clock::random_id(),
        path,
        file_roots: vec![PathBuf::new(), dir.clone(), dir.join("files"), dir.join("templates")],
        hosts,
        look_at_all: false,
        extra,
        lab: lab_hosts,
    })
}

fn lab_of(path: &Path, inventory: &Inventory, lab: Lab) -> Result<LabHosts, CliError> {
    if lab == Lab::Up {
        return lab_command::up_for(path, inventory);
    }
    let key = LabKey::of_inventory(path)
        .map_err(|e| CliError::usage(format!("{}: {e}", path.display())))?;
    lab::status(&key).map_err(|_| {
        let shown = path.display();
        CliError::unreachable(format!("the lab of {shown} is not up"))
            .hint(format!("`pgorch lab up {shown}` or `pgorch apply {shown}` makes it"))
    })
}

/// The lab's addresses in the inventory. A host that was declared after `lab up` has none.
fn put_addresses(path: &Path, inventory: &mut Inventory, lab: &LabHosts) -> Result<(), CliError> {
    for host in &lab.hosts {
        if let Some(own) = inventory.host_mut(&HostName(host.name.clone())) {
            own.address = Some(host.address.to_string());
        }
    }
    let in_lab = |name: &HostName| lab.hosts.iter().any(|h| h.name == name.0);
    match inventory.all_hosts().find(|(name, _)| !in_lab(name)) {
        None => Ok(()),
        Some((name, _)) => {
            let shown = path.display();
            Err(CliError::unreachable(format!("the lab of {shown} has no host {name} yet"))
                .hint(format!("`pgorch lab up {shown}` or `pgorch apply {shown}` makes it")))
        }
    }
}

fn limited(common: &Common, inventory: &Inventory) -> Result<Vec<HostName>, CliError> {
    let Some(pattern) = &common.limit else {
        return Ok(inventory.all_hosts().map(|(name, _)| name.clone()).collect());
    };
    let hosts = match_hosts(pattern, inventory, &LiveRoles::default())
        .map_err(|e| CliError::usage(e.to_string()).hint(&e.hint))?;
    if hosts.is_empty() {
        return Err(CliError::usage(format!("--limit {pattern}: no host is left")).hint(
            "live roles (primary, standbys) cannot be used here: they are known only later",
        ));
    }
    Ok(hosts)
}

/// The process's SSH: unlocked keys and jump hosts are shared by all connections.
pub(super) fn transport() -> Transport {
    Transport::new(clock::process(), Arc::new(AskUser))
}

struct AskUser;

impl transport::Prompts for AskUser {
    fn passphrase(&self, key: &Path, attempt: u32) -> Option<Secret> {
        const ATTEMPTS_MAX: u32 = 3;
        if attempt > ATTEMPTS_MAX {
            return None;
        }
        secrets::prompt(&format!("Passphrase of {}: ", key.display())).ok()
    }
}

/// What the command line says about connections.
fn overrides(common: &Common) -> Result<CommandLine, CliError> {
    let ask = |wanted: bool, text: &str| {
        if wanted { secrets::prompt(text).map(Some) } else { Ok(None) }
    };
    Ok(CommandLine {
        user: common.user.clone(),
        identity_file: common.private_key.as_ref().map(|p| p.to_string_lossy().into_owned()),
        password: ask(common.ask_pass, "SSH password: ")?,
        r#become: common.r#become.then_some(true),
        become_password: ask(common.ask_become_pass, "sudo password: ")?,
        accept_new: common.accept_new,
        connect_timeout: common.timeout.map(std::time::Duration::from_secs),
    })
}

pub(super) fn verbosity(common: &Common) -> Verbosity {
    match common.verbose {
        0 => Verbosity::Normal,
        1 => Verbosity::Verbose,
        _ => Verbosity::Debug,
    }
}

/// Where the controller keeps its journals: `$XDG_STATE_HOME/pgorch` or `~/.local/state/pgorch`.
pub(super) fn state_dir() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/state"));
    let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(home);
    base.unwrap_or_else(|| PathBuf::from("/var/lib")).join("pgorch")
}

impl Prepared {
    pub(super) fn hosts(&self) -> &[HostName] {
        &self.hosts
    }

    /// Narrows the run to these nodes, which the command line names.
    pub(super) fn narrow(&mut self, nodes: Vec<HostName>) {
        self.hosts = nodes;
    }

    /// The journal of this run, if it can be written; a run does not depend on it.
    pub(super) fn journal(&self) -> Option<Arc<dyn Sink>> {
        let line = super::apply::journal_line;
        let journal = Journal::open(&state_dir(), &self.inventory.cluster, &self.run, line);
        match journal {
            Ok(journal) => Some(Arc::new(journal)),
            Err(error) => {
                Printer.err(&format!("warning: no journal of this run: {error}\n"));
                None
            }
        }
    }

    /// One link per selected host, not connected yet.
    pub(super) async fn links(
        &self,
        common: &Common,
    ) -> Result<IndexMap<HostName, Link>, CliError> {
        self.links_to(common, &self.hosts).await
    }

    /// The selected hosts, and with live roles every node: who is the primary is seen by looking at
    /// all, whatever `--limit` says about what may be changed.
    fn looked_at(&self, playbook: &Playbook) -> Vec<HostName> {
        let mut hosts = self.hosts.clone();
        let live = playbook.plays.iter().any(|play| uses_live_roles(&play.hosts.text));
        if live || self.look_at_all {
            let others = self.inventory.nodes.keys().filter(|name| !self.hosts.contains(name));
            hosts.extend(others.cloned());
        }
        // They vote when a primary with a guard is started or restarted.
        if self.inventory.failover.automatic {
            let witnesses = self.inventory.witnesses.keys();
            let others: Vec<HostName> = witnesses.filter(|w| !hosts.contains(w)).cloned().collect();
            hosts.extend(others);
        }
        // An operation is more than the hosts that it is wanted for.
        if operates(playbook) {
            let poolers = self.inventory.routing.poolers.keys();
            let others: Vec<HostName> = poolers.filter(|p| !hosts.contains(p)).cloned().collect();
            hosts.extend(others);
        }
        hosts
    }

    async fn links_to(
        &self,
        common: &Common,
        hosts: &[HostName],
    ) -> Result<IndexMap<HostName, Link>, CliError> {
        let targets = self.targets_of(common, hosts).await?;
        Ok(self.links_of(targets))
    }

    fn links_of(&self, targets: IndexMap<HostName, Target>) -> IndexMap<HostName, Link> {
        let transport = transport();
        let link = |(name, target): (HostName, Target)| {
            let node = self.inventory.postgres_of(&name);
            let link = Link::new(name.clone(), transport.clone(), target, node);
            let witness = self.inventory.witnesses.contains_key(&name);
            (name, if witness { link.of_witness(self.inventory.home()) } else { link })
        };
        targets.into_iter().map(link).collect()
    }

    /// One link per selected host with the login user's rights, or with root's where the command
    /// line or the inventory says so (`become`): what Ansible does with a single command.
    pub(super) async fn login_links(
        &self,
        common: &Common,
    ) -> Result<IndexMap<HostName, Link>, CliError> {
        let mut targets = self.targets(common).await?;
        for (name, target) in &mut targets {
            if !self.inventory.becomes(name) {
                target.r#become = Become::None;
            }
        }
        Ok(self.links_of(targets))
    }

    /// A lab host needs nothing of the user's: its keys, its known_hosts, root.
    fn lab_target(
        &self,
        lab: &LabHosts,
        name: &HostName,
        host: &inventory::Host,
        overrides: &CommandLine,
    ) -> Target {
        let own = |f: fn(&inventory::SshSettings) -> Option<String>| {
            f(&host.ssh).or_else(|| f(&self.inventory.ssh))
        };
        let user = overrides.user.clone().or_else(|| own(|s| s.user.clone()));
        let user = user.unwrap_or_else(|| "root".to_owned());
        let address = host.address.clone().unwrap_or_default();
        let mut target = Target::new(name.as_str(), &address, &user);
        let password =
            [&host.ssh, &self.inventory.ssh].into_iter().find_map(|s| match &s.become_password {
                Some(SecretRef::Plain(secret)) => Some(secret.clone()),
                _ => None,
            });
        if !self.forbids_become(host) {
            target.r#become = Become::sudo(overrides.become_password.clone().or(password));
        }
        target.identities = vec![Identity::explicit(&lab.identity_file)];
        target.identities_only = true;
        target.known_hosts = vec![lab.known_hosts.clone()];
        if let Some(connect) = overrides.connect_timeout {
            target.timeouts.connect = connect;
        }
        target
    }

    pub(super) async fn targets(
        &self,
        common: &Common,
    ) -> Result<IndexMap<HostName, Target>, CliError> {
        self.targets_of(common, &self.hosts).await
    }

    pub(super) async fn targets_of(
        &self,
        common: &Common,
        hosts: &[HostName],
    ) -> Result<IndexMap<HostName, Target>, CliError> {
        let line = overrides(common)?;
        let resolver = Resolver::new(clock::process(), Surroundings::of_process(), line.clone());
        let resolving = hosts.iter().filter_map(|name| {
            let (_, host) = self.inventory.all_hosts().find(|(n, _)| *n == name)?;
            let (resolver, line) = (&resolver, &line);
            Some(async move {
                let target = match &self.lab {
                    Some(lab) => Ok(self.lab_target(lab, name, host, line)),
                    None => self.own_target(resolver, name, host, line).await,
                };
                (name.clone(), target)
            })
        });
        let mut targets = IndexMap::new();
        for (name, target) in futures_util::future::join_all(resolving).await {
            targets.insert(name, target?);
        }
        Ok(targets)
    }

    /// A host of the user's: inventory, command line and ~/.ssh/config together.
    async fn own_target(
        &self,
        resolver: &Resolver,
        name: &HostName,
        host: &inventory::Host,
        line: &CommandLine,
    ) -> Result<Target, CliError> {
        let layers = [&host.ssh, &self.inventory.ssh];
        let plain = |f: fn(&inventory::SshSettings) -> &Option<SecretRef>| {
            layers.iter().find_map(|layer| match f(layer) {
                Some(SecretRef::Plain(secret)) => Some(secret.clone()),
                _ => None,
            })
        };
        let wanted = Wanted {
            name: name.as_str(),
            address: host.address.as_deref().unwrap_or_default(),
            layers: &layers,
            password: plain(|s| &s.password),
            become_password: plain(|s| &s.become_password),
        };
        let mut target =
            resolver.resolve(&wanted).await.map_err(|e| CliError::usage(e.to_string()))?;
        let as_root = target.user == "root" || target.r#become != Become::None;
        if !as_root && !self.forbids_become(host) {
            let password = wanted.become_password.or_else(|| line.become_password.clone());
            target.r#become = Become::sudo(password);
        }
        Ok(target)
    }

    /// Playbooks say `become: true`; a login that is not root then uses sudo, unless the inventory
    /// says that it must not.
    fn forbids_become(&self, host: &inventory::Host) -> bool {
        host.ssh.r#become.or(self.inventory.ssh.r#become) == Some(false)
    }

    pub(super) async fn runner(
        self,
        playbook: Playbook,
        select: Selection,
        sink: Arc<dyn Sink>,
        interrupt: watch::Receiver<u8>,
        file_roots: Vec<PathBuf>,
        common: &Common,
    ) -> Result<Runner, CliError> {
        let mut targets = self.targets_of(common, &self.looked_at(&playbook)).await?;
        if operates(&playbook) {
            targets.values_mut().for_each(watchful);
        }
        let links = self.links_of(targets);
        let vars = self.run_vars();
        Ok(Runner::new(vars, playbook, select, links, sink, interrupt, file_roots))
    }

    /// A runner that only looks: at the selected hosts, at every voter, without which the state of the
    /// cluster is not known, and at every pooler, which leads to its primary.
    pub(super) async fn looker(
        self,
        select: Selection,
        sink: Arc<dyn Sink>,
        interrupt: watch::Receiver<u8>,
        common: &Common,
    ) -> Result<Runner, CliError> {
        let inventory = &self.inventory;
        let voters = inventory.nodes.keys().chain(inventory.witnesses.keys());
        let needed = voters.chain(inventory.routing.poolers.keys());
        let hosts: IndexSet<HostName> = needed.chain(&self.hosts).cloned().collect();
        let hosts: Vec<HostName> = hosts.into_iter().collect();
        let mut targets = self.targets_of(common, &hosts).await?;
        targets.values_mut().for_each(watchful);
        let links = self.links_of(targets);
        let (vars, playbook) = (self.run_vars(), Playbook::default());
        Ok(Runner::new(vars, playbook, select, links, sink, interrupt, Vec::new()))
    }

    /// A runner of one of several playbooks on these hosts, which also looks at every node and pooler:
    /// for a command that goes on (`watch`).
    pub(super) async fn runner_of(
        &self,
        playbook: Playbook,
        hosts: Vec<HostName>,
        vars: Vec<(String, crate::model::Value)>,
        sink: Arc<dyn Sink>,
        interrupt: watch::Receiver<u8>,
        common: &Common,
    ) -> Result<Runner, CliError> {
        let inventory = &self.inventory;
        let needed = inventory.nodes.keys().chain(inventory.witnesses.keys());
        let needed = needed.chain(inventory.routing.poolers.keys()).chain(&hosts);
        let all: IndexSet<HostName> = needed.cloned().collect();
        let links = self.links_to(common, &all.into_iter().collect::<Vec<_>>()).await?;
        let mut extra = self.extra.vars.clone();
        extra.extend(vars);
        let vars = RunVars {
            redactor: self.redactor.clone(),
            ..RunVars::new(Arc::clone(inventory), extra)
        };
        let select = Selection { hosts, forks: common.forks, ..Selection::default() };
        Ok(Runner::new(vars, playbook, select, links, sink, interrupt, self.file_roots.clone()))
    }

    fn run_vars(&self) -> RunVars {
        let mut vars = RunVars::new(Arc::clone(&self.inventory), self.extra.vars.clone());
        vars.redactor = self.redactor.clone();
        for role in &self.inventory.postgres.roles {
            if let Some(SecretRef::Plain(secret)) = &role.password {
                vars.role_passwords.insert(role.name.clone(), secret.clone());
            }
        }
        vars
    }
}

/// Whether roles may change in a run of this playbook.
fn operates(playbook: &Playbook) -> bool {
    let all = segments(&playbook.plays);
    all.is_ok_and(|all| all.iter().any(|s| matches!(s, Segment::Operation(_))))
}

fn watchful(target: &mut Target) {
    target.timeouts = target.timeouts.watchful();
}
