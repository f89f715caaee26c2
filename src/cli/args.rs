//! The command line, as clap sees it. The doc comments are the help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Turns Linux hosts into a PostgreSQL high-availability cluster over plain SSH, and keeps it one.
///
/// Exit codes: 0 done, 1 failed, 2 bad usage or input, 3 changes pending, 4 a host could not be
/// reached, 5 refused, 130 interrupted (`pgorch explain exit-codes`).
#[derive(Debug, Parser)]
#[command(name = "pgorch", version, max_term_width = 100, disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub(super) struct Common {
    /// Inventory file (default: $PGORCH_INVENTORY, ./inventory.yml, the only lab that is up)
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(super) inventory: Vec<PathBuf>,
    /// Only these hosts: names, groups, patterns such as 'node*,!node2'
    #[arg(short, long, global = true, value_name = "HOSTS")]
    pub(super) limit: Option<String>,
    /// More output: -v what was right already, round trips; -vv results
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Form of the output
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Human)]
    pub(super) output: Output,
    /// Answer every question with yes
    #[arg(short, long, global = true)]
    pub(super) yes: bool,
    /// Hosts at work at the same time (default: all)
    #[arg(
        short,
        long,
        global = true,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub(super) forks: usize,
    /// Seconds to wait for a connection
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) timeout: Option<u64>,
    /// SSH user
    #[arg(short, long, global = true, value_name = "USER")]
    pub(super) user: Option<String>,
    /// SSH private key
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) private_key: Option<PathBuf>,
    /// Ask for the SSH password
    #[arg(short = 'k', long, global = true)]
    pub(super) ask_pass: bool,
    /// Ask for the sudo password
    #[arg(short = 'K', long, global = true)]
    pub(super) ask_become_pass: bool,
    /// Become root with sudo
    #[arg(short, long, global = true)]
    pub(super) r#become: bool,
    /// File with the password of !vault values
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) vault_password_file: Option<PathBuf>,
    /// Store the key of a host that is not known yet (a changed key is refused all the same)
    #[arg(long, global = true)]
    pub(super) accept_new: bool,
    /// Set a variable: NAME=VALUE, a YAML or JSON mapping, or @FILE
    #[arg(short, long, global = true, value_name = "VARS")]
    pub(super) extra_vars: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Human,
    Json,
    /// Not built yet
    Junit,
    /// Not built yet
    Github,
}

/// Options of commands that run a playbook.
#[derive(Debug, Clone, Args, Default)]
pub(super) struct RunArgs {
    /// Change nothing; say what would change (exit 3 if anything)
    #[arg(short = 'C', long, visible_alias = "dry-run")]
    pub(super) check: bool,
    /// Show whole diffs
    #[arg(short = 'D', long)]
    pub(super) diff: bool,
    /// Only tasks with these tags
    #[arg(short, long, value_delimiter = ',', value_name = "TAGS")]
    pub(super) tags: Vec<String>,
    /// No tasks with these tags
    #[arg(long, value_delimiter = ',', value_name = "TAGS")]
    pub(super) skip_tags: Vec<String>,
    /// Begin at the task of this name
    #[arg(long, value_name = "TASK")]
    pub(super) start_at_task: Option<String>,
    /// List the tasks and stop
    #[arg(long)]
    pub(super) list_tasks: bool,
    /// List the hosts and stop
    #[arg(long)]
    pub(super) list_hosts: bool,
    /// Restart running servers where a setting needs it
    #[arg(long)]
    pub(super) restart: bool,
    /// A data directory that may be replaced although it holds other data
    #[arg(long, value_name = "NODE:PATH")]
    pub(super) destroy: Vec<String>,
}

/// Options of `switchover`.
#[derive(Debug, Clone, Args)]
pub(super) struct SwitchoverArgs {
    /// The node that is to be the primary
    #[arg(long, visible_alias = "candidate", value_name = "NODE")]
    pub(super) to: String,
    /// Say every check and step, and change nothing
    #[arg(short = 'C', long, visible_alias = "check")]
    pub(super) dry_run: bool,
    /// Begin at this time: 22:30, or a timestamp with its offset
    #[arg(long, value_name = "TIME")]
    pub(super) at: Option<String>,
    /// A playbook of your own instead of the shipped switchover.yml
    #[arg(long, value_name = "FILE")]
    pub(super) playbook: Option<PathBuf>,
}

/// Options of `failover`.
#[derive(Debug, Clone, Args)]
pub(super) struct FailoverArgs {
    /// The node that is to be the primary (default: the standby with the most WAL)
    #[arg(long, visible_alias = "candidate", value_name = "NODE")]
    pub(super) to: Option<String>,
    /// Show the evidence and every step, and change nothing
    #[arg(short = 'C', long, visible_alias = "check")]
    pub(super) dry_run: bool,
    /// Go on although the old primary cannot be fenced: if it lives, there are two primaries
    #[arg(long)]
    pub(super) accept_split_brain_risk: bool,
    /// Go on although more may be lost than maximum_lag_on_failover allows
    #[arg(long)]
    pub(super) accept_data_loss: bool,
    /// A playbook of your own instead of the shipped failover.yml
    #[arg(long, value_name = "FILE")]
    pub(super) playbook: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the hosts what the inventory says; a second run changes nothing
    Apply {
        /// Inventory file, or a plan saved by `plan --out`
        file: Option<PathBuf>,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Say what apply would change, with diffs, and change nothing
    Plan {
        /// Inventory file
        file: Option<PathBuf>,
        #[command(flatten)]
        run: RunArgs,
        /// Save the plan; `pgorch apply FILE` does exactly that, or refuses
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// The cluster as it is now
    Status {
        /// Be a Nagios plugin: one line, exit 0, 1, 2 or 3
        #[arg(long)]
        check: bool,
    },
    /// Run any playbook on the inventory
    Run {
        /// Playbook file, or the name of a shipped one
        playbook: PathBuf,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Take nodes that have left the inventory out of the cluster's metadata, with their slots
    Unregister {
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Write nodes into the cluster's metadata (default: all that hold its data)
    Register {
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Bring old primaries and standbys that lost the way back as standbys, the cheapest way first
    Rejoin {
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// Which way; auto takes the cheapest that is sure to work, and the next if it fails
        #[arg(long, value_enum, default_value_t = Method::Auto)]
        method: Method,
        /// Remove the old data that a copy has kept, once the node streams
        #[arg(long)]
        discard_old: bool,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Base backup into nodes that have no data; --destroy NODE:PATH replaces what is there
    Clone {
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// The node to copy from, such as a standby (default: the one that it will follow)
        #[arg(long, value_name = "NODE")]
        from: Option<String>,
        /// At most this much per second, such as 50M
        #[arg(long, value_name = "RATE")]
        max_rate: Option<String>,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Have a standby stream from another node, until the next apply restores the declared one
    Follow {
        #[arg(value_name = "NODE")]
        node: String,
        /// The node to stream from (default: the inventory's `follow`, or the primary)
        #[arg(long, value_name = "NODE")]
        upstream: Option<String>,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Restart servers: these, or all that owe a restart; standbys first, the primary last
    Restart {
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
        /// Without names: also those that owe no restart
        #[arg(long)]
        force: bool,
        /// The primary's restart by a switchover: a standby takes over, the old primary follows it
        #[arg(long)]
        switchover: bool,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Have servers read their configuration again (default: all)
    Reload {
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Stop servers, until `start` or the next boot of their hosts
    Stop {
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// One of them may be the running primary
        #[arg(long)]
        primary: bool,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Start servers; refuses what would be a second primary
    Start {
        #[arg(required_unless_present = "all", value_name = "NODE")]
        nodes: Vec<String>,
        /// After a cold start of everything: the newest as the primary, then the standbys
        #[arg(long, conflicts_with = "nodes")]
        all: bool,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Make another node the primary, without losing a row; undone if it cannot finish
    Switchover(SwitchoverArgs),
    /// Replace a primary that is gone or hangs by a standby
    Failover(FailoverArgs),
    /// Make this node the primary although the old one does not hand over: `failover --to NODE`
    Promote {
        node: String,
        #[command(flatten)]
        failover: FailoverArgs,
    },
    /// Continue or undo an operation that was interrupted
    Resume {
        /// The operation's id (default: the open one)
        id: Option<String>,
    },
    /// Look after the cluster: replace a primary that is lost (not finished, do not rely on it yet)
    Watch {
        /// Say what would be done, and do nothing
        #[arg(short = 'C', long, visible_alias = "check")]
        dry_run: bool,
        /// The watch that owned the cluster is gone for good: this one takes its place
        #[arg(long)]
        take_over: bool,
        /// Print a systemd unit that runs this watch with these options, and stop
        #[arg(long, conflicts_with_all = ["dry_run", "take_over"])]
        print_unit: bool,
    },
    /// Have the watch look on without acting, for instance during maintenance
    Pause {
        /// Until so much later: 30min, 2h; without it until `unpause`
        #[arg(long, value_name = "TIME")]
        r#for: Option<String>,
        /// Why; shown by `status` and to whoever is notified
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// End a pause
    Unpause,
    /// Tell the watch that its recoveries were seen, so that it may act again
    Ack,
    /// Run one command on many hosts
    Exec {
        /// The command and its arguments
        #[arg(last = true, required = true, value_name = "ARGV")]
        argv: Vec<String>,
    },
    /// What is known of the hosts
    Facts,
    /// History of the cluster: its own events and this controller's runs
    Events {
        /// Go on as events come
        #[arg(long)]
        follow: bool,
        /// How many of the newest to show
        #[arg(short = 'n', long, default_value_t = 50)]
        lines: usize,
    },
    /// Check inventory, playbooks and templates; with --hosts the hosts too
    Check {
        /// Inventory file
        file: Option<PathBuf>,
        /// Playbooks to check besides the shipped ones
        #[arg(long, value_name = "FILE")]
        playbook: Vec<PathBuf>,
        /// Connect to each host and check what pgorch needs there
        #[arg(long)]
        hosts: bool,
    },
    /// What a finding, refusal or exit code means, and what to do
    Explain {
        /// The code; without one, all codes
        code: Option<String>,
    },
    /// Show the keys of hosts and store them as known
    Trust {
        /// Host names of the inventory (default: all)
        hosts: Vec<String>,
    },
    /// Disposable hosts on this machine
    #[command(subcommand)]
    Lab(LabCommand),
    /// Write a first inventory
    Init {
        /// File to write
        #[arg(default_value = "inventory.yml")]
        file: PathBuf,
        /// Cluster name
        #[arg(long)]
        cluster: Option<String>,
        /// Addresses of the nodes, the first primary first
        #[arg(long, value_delimiter = ',', value_name = "ADDRESS")]
        nodes: Vec<String>,
        /// PostgreSQL major version
        #[arg(long)]
        pg_version: Option<u32>,
        /// Replace the file if it is there
        #[arg(long)]
        force: bool,
    },
    /// Shell completions
    Completions { shell: clap_complete::Shell },
    /// JSON Schema of the inventory or of playbooks
    Schema {
        #[arg(value_enum, default_value_t = SchemaOf::Inventory)]
        of: SchemaOf,
    },
    /// The manual page
    Man,
    /// Write out the playbooks and templates that are inside the binary
    Playbooks {
        /// Directory to write to; without it, a list
        dir: Option<PathBuf>,
    },
    #[command(flatten)]
    Later(Later),
}

/// Ways in which an old node comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Method {
    /// The cheapest that is sure to work
    Auto,
    /// As it is: everything that it has is in the primary's history
    Start,
    /// pg_rewind: back to where its history left the primary's
    Rewind,
    /// A new base backup; the old data is kept beside it
    Clone,
}

impl Method {
    /// The word in playbooks.
    pub(super) fn word(self) -> &'static str {
        match self {
            Method::Auto => "auto",
            Method::Start => "start",
            Method::Rewind => "rewind",
            Method::Clone => "clone",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SchemaOf {
    Inventory,
    Playbook,
}

#[derive(Debug, Subcommand)]
pub(super) enum LabCommand {
    /// Make and start the hosts (built-in: three nodes)
    Up { file: Option<PathBuf> },
    /// Remove the hosts and everything that belongs to them
    Down {
        file: Option<PathBuf>,
        /// Every lab on this machine
        #[arg(long)]
        all: bool,
        /// The cached images too
        #[arg(long)]
        images: bool,
    },
    /// The labs on this machine
    Status { file: Option<PathBuf> },
    /// A shell, or a command, on a host
    Ssh {
        host: String,
        #[arg(last = true)]
        argv: Vec<String>,
    },
    /// Break something: stop, kill, power-off, start, freeze, thaw, cut, heal, fill-disk, free-disk
    Fault {
        #[arg(
            required = true,
            value_name = "WORDS",
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        words: Vec<String>,
    },
    /// Back to fresh hosts
    Reset { hosts: Vec<String> },
}

/// Commands of the contract that are not built yet: they answer so, with exit 2.
#[derive(Debug, Subcommand)]
pub(super) enum Later {
    /// Rehearse a fault (not built yet)
    Drill(Rest),
}

#[derive(Debug, Args)]
pub(super) struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub(super) rest: Vec<String>,
}
