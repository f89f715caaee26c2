//! Inventory, command line and ssh_config together, with a real `ssh -G` where there is one.

use std::path::Path;
use std::time::{Duration, Instant};

use pgorch::clock::Clock;
use pgorch::inventory::SshSettings;
use pgorch::model::Secret;
use pgorch::transport::config::{files_matter, matters, parse};
use pgorch::transport::{
    Become, CommandLine, HostKeys, ResolveError, Resolver, Surroundings, Target, Wanted,
};

use super::sshd::{can, command, run};

/// A home with this ssh_config; `ssh` is a script that makes OpenSSH read it.
fn around(config: &str) -> (tempfile::TempDir, Surroundings) {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join(".ssh/config");
    std::fs::create_dir(home.path().join(".ssh")).expect("created");
    std::fs::write(&file, config).expect("written");
    let ssh = home.path().join("ssh");
    let script = format!("#!/bin/sh\nexec ssh -F {} \"$@\"\n", file.display());
    std::fs::write(&ssh, script).expect("written");
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).expect("mode");
    let around = Surroundings {
        home: home.path().to_owned(),
        user: command("id", &["-un"]).trim().to_owned(),
        agent: Some("/agent".into()),
        ssh,
        system_config: home.path().join("none"),
    };
    (home, around)
}

fn wanted<'a>(address: &'a str, layers: &'a [&'a SshSettings]) -> Wanted<'a> {
    Wanted { name: "n1", address, layers, password: None, become_password: None }
}

async fn resolve(
    config: &str,
    line: CommandLine,
    wanted: &Wanted<'_>,
) -> Result<Target, ResolveError> {
    let (_home, around) = around(config);
    Resolver::new(Clock::default(), around, line).resolve(wanted).await
}

#[test]
fn the_most_special_setting_wins() {
    run(async {
        let host = SshSettings { port: Some(2201), ..SshSettings::default() };
        let all = SshSettings {
            port: Some(2202),
            user: Some("all".to_owned()),
            r#become: Some(true),
            identity_file: Some("~/key".to_owned()),
            known_hosts: Some("/kh".to_owned()),
            connect_timeout_seconds: Some(3),
            ..SshSettings::default()
        };
        let line = CommandLine {
            user: Some("line".to_owned()),
            become_password: Some(Secret::new("sesame")),
            accept_new: true,
            ..CommandLine::default()
        };
        let layers = [&host, &all];
        let target = resolve("", line, &wanted("db1", &layers)).await.expect("a target");
        assert_eq!((target.port, target.user.as_str()), (2201, "all"));
        assert_eq!(target.r#become, Become::sudo(Some(Secret::new("sesame"))));
        assert_eq!(target.identities.len(), 1);
        assert!(target.identities[0].path.ends_with("key") && target.identities[0].explicit);
        assert_eq!(target.known_hosts[0], Path::new("/kh"));
        assert_eq!(target.host_keys, HostKeys::AcceptNew);
        assert_eq!(target.timeouts.connect, Duration::from_secs(3));
        assert_eq!(target.known_hosts_name(), "[db1]:2201");
        let line = CommandLine { user: Some("line".to_owned()), ..CommandLine::default() };
        let target = resolve("", line, &wanted("db1", &[])).await.expect("a target");
        assert_eq!((target.user.as_str(), target.port), ("line", 22));
        assert!(target.r#become == Become::None && target.identities.iter().all(|i| !i.explicit));
        let root = SshSettings { user: Some("root".into()), ..all.clone() };
        let layers = [&root];
        let target = resolve("", CommandLine::default(), &wanted("db1", &layers)).await;
        assert_eq!(target.expect("a target").r#become, Become::None, "root needs no sudo");
        for bad in ["", "-oProxyCommand=x", "a b"] {
            let error = resolve("", CommandLine::default(), &wanted(bad, &[])).await;
            assert!(matches!(error, Err(ResolveError::BadAddress { .. })), "{error:?}");
        }
    });
}

const CONFIG: &str = "
Host db1
  HostName 10.0.0.1
  User ada
  Port 2222
  IdentityFile ~/.ssh/%r_key
  CertificateFile ~/.ssh/x-cert.pub
  IdentityAgent none
  IdentitiesOnly yes
  HostKeyAlias alias1
  ConnectTimeout 7
  UserKnownHostsFile ~/kh /other/kh
  ProxyJump bob@b1:2200,b2
Host b1
  User ignored
  ProxyJump b0
Host b2
  User carol
Host circle
  ProxyJump circle2
Host circle2
  ProxyJump circle
Host command
  ProxyCommand nc %h %p
";

#[test]
fn ssh_config_is_honoured() {
    run(async {
        if !can("ssh", Path::new("/usr/bin/ssh").exists()) {
            return;
        }
        let none = CommandLine::default;
        let target = resolve(CONFIG, none(), &wanted("db1", &[])).await.expect("a target");
        assert_eq!(target.address(), "ada@10.0.0.1:2222");
        assert!(target.identities[0].path.ends_with(".ssh/ada_key"), "{:?}", target.identities);
        assert!(target.certificates[0].ends_with(".ssh/x-cert.pub"));
        assert!(target.identities_only && target.agent.is_none());
        assert_eq!(target.known_hosts_name(), "alias1");
        assert_eq!(target.timeouts.connect, Duration::from_secs(7));
        assert!(target.known_hosts.contains(&"/other/kh".into()), "{:?}", target.known_hosts);
        let hops: Vec<String> =
            std::iter::successors(target.jump.as_deref(), |t| t.jump.as_deref())
                .map(Target::address)
                .collect();
        assert_eq!(hops, ["carol@b2:22", "bob@b1:2200", "ada@b0:22"]);
        let own = SshSettings {
            proxy_jump: Some("none".to_owned()),
            user: Some("root".to_owned()),
            ..SshSettings::default()
        };
        let layers = [&own];
        let target = resolve(CONFIG, none(), &wanted("db1", &layers)).await.expect("a target");
        assert_eq!(
            (target.address().as_str(), target.jump.is_none()),
            ("root@10.0.0.1:2222", true)
        );
        let off = SshSettings { ssh_config: Some(false), ..SshSettings::default() };
        let layers = [&off];
        let target = resolve(CONFIG, none(), &wanted("db1", &layers)).await.expect("a target");
        let me = command("id", &["-un"]);
        assert_eq!(target.address(), format!("{}@db1:22", me.trim()));
        let error = resolve(CONFIG, none(), &wanted("circle", &[])).await;
        assert!(matches!(error, Err(ResolveError::TooManyJumps { .. })), "{error:?}");
        let error = resolve(CONFIG, none(), &wanted("command", &[])).await;
        assert!(matches!(error, Err(ResolveError::ProxyCommand { .. })), "{error:?}");
        let error = resolve("Host *\n  Nonsense 1\n  User x", none(), &wanted("db1", &[])).await;
        let Err(ResolveError::SshConfig { cause, .. }) = error else { panic!("{error:?}") };
        assert!(cause.contains("line 2"), "{cause}");
    });
}

#[test]
fn ssh_is_not_run_without_need() {
    run(async {
        let (_home, mut around) = around("Host *\n  ServerAliveInterval 5\n");
        around.ssh = "/bin/false".into();
        let clock = Clock::default();
        let resolver = Resolver::new(clock, around.clone(), CommandLine::default());
        resolver.resolve(&wanted("db1", &[])).await.expect("not asked");
        // An absent ssh has no configuration either.
        std::fs::write(around.home.join(".ssh/config"), "User x").expect("written");
        around.ssh = "/no/such/ssh".into();
        let resolver = Resolver::new(clock, around, CommandLine::default());
        resolver.resolve(&wanted("db1", &[])).await.expect("nothing to ask");
    });
}

#[test]
fn many_hosts_are_asked_about_side_by_side() {
    run(async {
        let (home, mut around) = around("Host db1\n  User x\n");
        let ssh = home.path().join("ssh");
        std::fs::write(&ssh, "#!/bin/sh\nsleep 2\necho user ada\n").expect("written");
        around.ssh = ssh;
        let resolver = Resolver::new(Clock::default(), around, CommandLine::default());
        let hosts = [wanted("a", &[]), wanted("b", &[]), wanted("c", &[]), wanted("d", &[])];
        let start = Instant::now();
        let targets = resolver.resolve_all(&hosts).await;
        assert!(targets.iter().all(|t| t.as_ref().is_ok_and(|t| t.user == "ada")), "{targets:?}");
        assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    });
}

#[test]
fn what_matters_in_a_configuration() {
    let no = |_: &str| false;
    assert!(!matters("# User x\nHost *\n  SendEnv LANG\n\tHashKnownHosts yes\n", &no));
    assert!(matters("Host *\n  user=x", &no) && matters("\tProxyJump b", &no));
    assert!(matters("Match all", &no) && !matters("Include /x", &no));
    assert!(matters("include /x", &|_| true));
    let dir = tempfile::tempdir().expect("a directory");
    let system = dir.path().join("ssh_config");
    let drop_in = dir.path().join("ssh_config.d");
    std::fs::create_dir(&drop_in).expect("created");
    let absent = dir.path().join("absent");
    assert!(!files_matter(&absent, &system));
    let text =
        format!("Include {}/*.conf\nHost *\n  GSSAPIAuthentication yes\n", drop_in.display());
    std::fs::write(&system, text).expect("written");
    assert!(!files_matter(&absent, &system));
    std::fs::write(drop_in.join("20-site.conf"), "Host *\n  Port 2222\n").expect("written");
    assert!(files_matter(&absent, &system));
    // `ssh -G` drops the quotes around a path with a space.
    let config = parse("user ada\nuserknownhostsfile /root/.kh /tmp/a b/kh\nproxyjump none\n");
    assert_eq!(config.user_known_hosts, ["/root/.kh", "/tmp/a b/kh"]);
    assert_eq!(config.proxy_jump, None);
}
