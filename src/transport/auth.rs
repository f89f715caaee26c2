//! Authentication: which keys are offered, in which order, and what is said when none is taken.
//!
//! Order: the key that the user named (signed for by the agent when it holds it), the agent's
//! other keys, the usual key files, then the password. A server counts every refused key against
//! MaxAuthTries (6 by default), so the named key must come first.

use std::path::PathBuf;
use std::sync::Arc;

use russh::client::{AuthResult, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Certificate, HashAlg, PrivateKeyWithHashAlg, PublicKey};
use russh::{MethodKind, MethodSet};
use tokio::net::UnixStream;

use super::connect::SshHandle;
use super::deadline::Deadline;
use super::error::{ConnectErrorKind as Kind, KeyError, Stage};
use super::keyring::{self, KeyRing};
use super::target::{Identity, Target};

type Agent = AgentClient<UnixStream>;

enum Candidate {
    Agent(Box<AgentIdentity>),
    File(Identity),
}

pub(super) struct Auth<'a> {
    pub(super) handle: &'a mut SshHandle,
    pub(super) target: &'a Target,
    pub(super) keys: &'a KeyRing,
    pub(super) deadline: &'a mut Deadline,
    /// The cause once the connection is gone.
    pub(super) lost: &'a super::host_check::LostCause,
    pub(super) tried: Vec<String>,
    remaining: Option<MethodSet>,
    /// The first key that could not even be loaded; the answer if nothing else works.
    key_error: Option<KeyError>,
    agent_error: Option<Kind>,
}

impl<'a> Auth<'a> {
    pub(super) fn new(
        handle: &'a mut SshHandle,
        target: &'a Target,
        keys: &'a KeyRing,
        deadline: &'a mut Deadline,
        lost: &'a super::host_check::LostCause,
    ) -> Self {
        Auth {
            handle,
            target,
            keys,
            deadline,
            lost,
            tried: Vec::new(),
            remaining: None,
            key_error: None,
            agent_error: None,
        }
    }

    /// Logs in, or says why not.
    pub(super) async fn run(mut self) -> Result<(), Kind> {
        let (mut agent, held) = self.agent_keys().await;
        for candidate in order(self.target, &held) {
            if !self.allowed(MethodKind::PublicKey) {
                break;
            }
            let accepted = match (candidate, agent.as_mut()) {
                (Candidate::Agent(key), Some(agent)) => self.try_agent(agent, *key).await?,
                (Candidate::Agent(_), None) => false,
                (Candidate::File(identity), _) => self.try_file(&identity).await?,
            };
            if accepted {
                return Ok(());
            }
        }
        if self.try_password().await? || self.try_interactive().await? {
            return Ok(());
        }
        Err(self.refused())
    }

    /// The agent and its keys. A broken agent is remembered and passed over, as ssh does.
    async fn agent_keys(&mut self) -> (Option<Agent>, Vec<AgentIdentity>) {
        let Some(socket) = self.target.agent.clone() else { return (None, Vec::new()) };
        let talk = async {
            let mut agent = Agent::connect_uds(&socket).await.map_err(|e| e.to_string())?;
            let held = agent.request_identities().await.map_err(|e| e.to_string())?;
            Ok::<_, String>((agent, held))
        };
        let cause = match self.deadline.run(talk).await {
            Some(Ok((agent, held))) => return (Some(agent), held),
            Some(Err(cause)) => cause,
            None => "it does not answer".to_owned(),
        };
        self.agent_error = Some(Kind::Agent { socket, cause });
        (None, Vec::new())
    }

    async fn try_agent(&mut self, agent: &mut Agent, key: AgentIdentity) -> Result<bool, Kind> {
        let public = key.public_key().into_owned();
        self.tried.push(format!("agent key {}", name_of(&public, key.comment())));
        let hash = self.hash_for(&public).await?;
        let user = self.target.user.clone();
        let attempt = async {
            match key {
                AgentIdentity::PublicKey { key, .. } => {
                    self.handle.authenticate_publickey_with(user, key, hash, agent).await
                }
                AgentIdentity::Certificate { certificate, .. } => {
                    self.handle.authenticate_certificate_with(user, certificate, hash, agent).await
                }
            }
        };
        match self.deadline.run(attempt).await {
            None => Err(self.timed_out()),
            Some(Ok(result)) => self.settle(result),
            // The agent declined to sign (a confirmation was refused): go on with the next key.
            Some(Err(_)) if self.lost.get().is_none() => Ok(false),
            Some(Err(_)) => Err(self.hung_up()),
        }
    }

    async fn try_file(&mut self, identity: &Identity) -> Result<bool, Kind> {
        let path = &identity.path;
        if !identity.explicit && !path.exists() {
            return Ok(false);
        }
        let keys = self.keys;
        let key = match self.deadline.paused(keys.load(path)).await {
            Ok(key) => key,
            Err(e) => {
                self.tried.push(format!("{} (not usable)", path.display()));
                self.key_error.get_or_insert(e);
                return Ok(false);
            }
        };
        let user = self.target.user.clone();
        if let Some(cert) = keyring::certificate(path, key.public_key(), &self.target.certificates)
        {
            self.tried.push(format!("certificate of {}", path.display()));
            let call = self.handle.authenticate_openssh_cert(&user, Arc::clone(&key), cert);
            let result = self.deadline.run(call).await;
            if self.conclude(result)? {
                return Ok(true);
            }
        }
        self.tried.push(path.display().to_string());
        let hash = self.hash_for(key.public_key()).await?;
        let key = PrivateKeyWithHashAlg::new(key, hash);
        let result = self.deadline.run(self.handle.authenticate_publickey(&user, key)).await;
        self.conclude(result)
    }

    async fn try_password(&mut self) -> Result<bool, Kind> {
        let Some(password) = &self.target.password else { return Ok(false) };
        if !self.allowed(MethodKind::Password) {
            return Ok(false);
        }
        self.tried.push("password".to_owned());
        let call = self.handle.authenticate_password(&self.target.user, password.expose());
        let result = self.deadline.run(call).await;
        self.conclude(result)
    }

    /// Answers every hidden prompt with the password: PAM's way to ask for one.
    async fn try_interactive(&mut self) -> Result<bool, Kind> {
        let Some(password) = self.target.password.clone() else { return Ok(false) };
        if !self.allowed(MethodKind::KeyboardInteractive) {
            return Ok(false);
        }
        self.tried.push("keyboard-interactive".to_owned());
        let user = self.target.user.clone();
        let start = self.handle.authenticate_keyboard_interactive_start(user, None::<String>);
        let mut step = self.deadline.run(start).await;
        // Rounds are bounded: a server could ask for ever.
        for _ in 0..8 {
            match step {
                None => return Err(self.timed_out()),
                Some(Err(_)) => return Err(self.hung_up()),
                Some(Ok(KeyboardInteractiveAuthResponse::Success)) => return Ok(true),
                Some(Ok(KeyboardInteractiveAuthResponse::Failure {
                    remaining_methods, ..
                })) => {
                    self.remaining = Some(remaining_methods);
                    return Ok(false);
                }
                Some(Ok(KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. })) => {
                    let answer = |p: &russh::client::Prompt| {
                        if p.echo { String::new() } else { password.expose().to_owned() }
                    };
                    let answers = prompts.iter().map(answer).collect();
                    let call = self.handle.authenticate_keyboard_interactive_respond(answers);
                    step = self.deadline.run(call).await;
                }
            }
        }
        Ok(false)
    }

    /// For RSA, SHA-2 as the server's list of signature algorithms has it; `ssh-rsa` with SHA-1
    /// only if the server says that it knows nothing better.
    async fn hash_for(&mut self, key: &PublicKey) -> Result<Option<HashAlg>, Kind> {
        if !key.algorithm().is_rsa() {
            return Ok(None);
        }
        match self.deadline.run(self.handle.best_supported_rsa_hash()).await {
            None => Err(self.timed_out()),
            Some(Ok(best)) => Ok(best.unwrap_or(Some(HashAlg::Sha512))),
            Some(Err(_)) => Err(self.hung_up()),
        }
    }

    fn conclude(&mut self, result: Option<Result<AuthResult, russh::Error>>) -> Result<bool, Kind> {
        match result {
            None => Err(self.timed_out()),
            Some(Ok(result)) => self.settle(result),
            Some(Err(_)) => Err(self.hung_up()),
        }
    }

    fn settle(&mut self, result: AuthResult) -> Result<bool, Kind> {
        match result {
            AuthResult::Success => Ok(true),
            AuthResult::Failure { .. } if self.lost.get().is_some() => Err(self.hung_up()),
            AuthResult::Failure { remaining_methods, partial_success } => {
                if partial_success {
                    // The server wants a second factor: what was accepted stays accepted.
                    self.tried.push("(accepted, but the server wants more)".to_owned());
                }
                self.remaining = Some(remaining_methods);
                Ok(false)
            }
        }
    }

    fn allowed(&self, method: MethodKind) -> bool {
        self.remaining.as_ref().is_none_or(|set| set.contains(&method))
    }

    fn timed_out(&self) -> Kind {
        Kind::TimedOut {
            address: self.target.address(),
            stage: Stage::Authentication,
            after: self.deadline.whole,
        }
    }

    fn hung_up(&self) -> Kind {
        let cause = self.lost.get().unwrap_or_else(|| "connection closed".to_owned());
        if cause.contains("Too many authentication failures") {
            return Kind::TooManyKeys { tried: self.tried.clone() };
        }
        Kind::Lost { stage: Stage::Authentication, cause }
    }

    fn refused(self) -> Kind {
        let only_broken = self.tried.iter().all(|t| t.ends_with("(not usable)"));
        match (self.key_error, self.agent_error) {
            (Some(e), _) if only_broken => return Kind::Key(e),
            (None, Some(e)) if self.tried.is_empty() => return e,
            _ => {}
        }
        let remaining = self.remaining.as_deref().unwrap_or_default();
        Kind::NotAccepted {
            user: self.target.user.clone(),
            tried: self.tried,
            remaining: remaining.iter().map(String::from).collect(),
        }
    }
}

/// What to offer, in which order.
fn order(target: &Target, held: &[AgentIdentity]) -> Vec<Candidate> {
    let publics: Vec<(PathBuf, Option<PublicKey>)> =
        target.identities.iter().map(|i| (i.path.clone(), keyring::public_half(&i.path))).collect();
    let same = |a: &AgentIdentity, b: &PublicKey| a.public_key().key_data() == b.key_data();
    let agent_has = |identity: &Identity| {
        let public = publics.iter().find(|(p, _)| *p == identity.path)?.1.as_ref()?;
        held.iter().find(|k| same(k, public)).cloned()
    };
    let mut out = Vec::new();
    let mut used: Vec<(PublicKey, bool)> = Vec::new();
    let mut from_agent = |key: AgentIdentity, out: &mut Vec<Candidate>| {
        let certified = matches!(key, AgentIdentity::Certificate { .. });
        let id = (key.public_key().into_owned(), certified);
        if !used.contains(&id) {
            used.push(id);
            out.push(Candidate::Agent(Box::new(key)));
        }
    };
    let own_certificate = |i: &Identity| -> Option<Certificate> {
        let public = publics.iter().find(|(p, _)| *p == i.path)?.1.as_ref()?;
        keyring::certificate(&i.path, public, &target.certificates)
    };
    for explicit in [true, false] {
        for identity in target.identities.iter().filter(|i| i.explicit == explicit) {
            match agent_has(identity) {
                Some(key) if own_certificate(identity).is_none() => from_agent(key, &mut out),
                _ if explicit => out.push(Candidate::File(identity.clone())),
                _ => {}
            }
        }
    }
    if !target.identities_only {
        held.iter().for_each(|key| from_agent(key.clone(), &mut out));
    }
    let rest = target.identities.iter().filter(|i| !i.explicit);
    let rest = rest.filter(|i| agent_has(i).is_none() || own_certificate(i).is_some());
    out.extend(rest.cloned().map(Candidate::File));
    out
}

fn name_of(key: &PublicKey, comment: &str) -> String {
    let kind = key.algorithm();
    if comment.is_empty() {
        format!("{kind} {}", super::known_hosts::fingerprint(key))
    } else {
        format!("{kind} {comment}")
    }
}
