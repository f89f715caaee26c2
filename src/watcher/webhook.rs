//! One POST of a JSON document, over HTTP or TLS.

use std::time::Duration;

use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::inventory::{SecretRef, Webhook};
use crate::model::Secret;

/// Where to, and with what.
#[derive(Clone)]
pub(super) struct Post {
    agent: Agent,
    url: Secret,
    headers: Vec<(String, Secret)>,
    /// Scheme and host: the rest of an address is often a secret.
    name: String,
}

impl Post {
    /// # Errors
    /// The address, or the file of certificates, is of no use.
    pub(super) fn new(webhook: &Webhook, timeout: Duration) -> Result<Self, String> {
        let value = |secret: &SecretRef| match secret {
            SecretRef::Plain(secret) => Ok(secret.clone()),
            _ => Err("a secret of a webhook was not resolved".to_owned()),
        };
        let url = value(&webhook.url)?;
        let bad = "the address of a webhook must begin with https:// or http://, and have a host";
        let uri: Uri = url.expose().parse().map_err(|_| bad.to_owned())?;
        let (scheme, host) = uri.scheme_str().zip(uri.host()).ok_or(bad)?;
        if !matches!(scheme, "http" | "https") {
            return Err(bad.to_owned());
        }
        let name = format!("{scheme}://{host}");
        let headers = webhook.headers.iter().map(|(k, v)| Ok((k.clone(), value(v)?)));
        let headers = headers.collect::<Result<_, String>>()?;
        let roots = match &webhook.ca_file {
            None => RootCerts::PlatformVerifier,
            Some(path) => authorities(path).map_err(|why| format!("{path}: {why}"))?,
        };
        let config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            // The document goes to whom the operator has named, and nowhere else.
            .max_redirects(0)
            .user_agent(concat!("pgorch/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Ok(Post { agent: config.into(), url, headers, name })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// # Errors
    /// It was not taken, in a few words that show nothing of the address but its host.
    pub(super) async fn send(&self, document: String) -> Result<(), String> {
        let post = self.clone();
        let sent = tokio::task::spawn_blocking(move || post.send_now(&document)).await;
        sent.unwrap_or_else(|_| Err("the task was given up".to_owned()))
    }

    fn send_now(&self, document: &str) -> Result<(), String> {
        let mut request =
            self.agent.post(self.url.expose()).header("Content-Type", "application/json");
        for (name, value) in &self.headers {
            request = request.header(name, value.expose());
        }
        let answer = request.send(document).map_err(|error| match error {
            // Some of ureq's errors show the address.
            ureq::Error::BadUri(_) => "the address is of no use".to_owned(),
            error => error.to_string(),
        })?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }
}

fn authorities(path: &str) -> Result<RootCerts, String> {
    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let all: Vec<Certificate<'static>> = parse_pem(&text).filter_map(certificate).collect();
    if all.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(RootCerts::from(all))
}
