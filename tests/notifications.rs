//! Who is told what the watch sees: real commands, and webhooks on a real listener; those that fail and
//! those that hang. `tls` is the same over TLS.

mod tls;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pgorch::event::{Event, Sink};
use pgorch::inventory::{Notification, Recipient, SecretRef, Webhook, parse};
use pgorch::model::{NoticeKind, Redactor, Secret, Value};
use pgorch::syntax::Source;
use pgorch::watcher::Notifier;

/// What was said about deliveries.
#[derive(Default)]
pub(crate) struct Said(Mutex<Vec<String>>);

impl Sink for Said {
    fn emit(&self, event: &Event) {
        self.0.lock().unwrap().push(event.message.clone());
    }
}

impl Said {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

pub(crate) fn command(line: &str, timeout: Duration) -> Notification {
    let argv = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    Notification { to: Recipient::Command(argv), events: NoticeKind::usual(), timeout }
}

fn secret(text: &str) -> SecretRef {
    SecretRef::Plain(Secret::new(text))
}

pub(crate) fn webhook(url: &str) -> Webhook {
    Webhook { url: secret(url), headers: Default::default(), ca_file: None }
}

pub(crate) fn post(webhook: Webhook) -> Notification {
    let timeout = Duration::from_secs(1);
    Notification { to: Recipient::Webhook(webhook), events: NoticeKind::usual(), timeout }
}

fn document(number: u64) -> Value {
    serde_json::json!({ "event": "alarm", "cluster": "accounts", "message": "it's bad", "node": "n1",
        "number": number })
}

/// Sends so many alarms and waits until all that can be delivered are.
pub(crate) fn tell(all: &[Notification], count: u64, redactor: &Redactor) -> Vec<String> {
    let said = Arc::new(Said::default());
    let sink: Arc<dyn Sink> = said.clone();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let notifier = Notifier::start(all, redactor, &sink).expect("right");
        for number in 0..count {
            notifier.tell(NoticeKind::Alarm, &document(number));
        }
        notifier.finish(Duration::from_secs(20)).await;
    });
    said.all()
}

/// A request as it came.
struct Request {
    head: String,
    body: Value,
}

/// Answers one request after the other with these statuses, then listens no more. One that is empty is
/// never answered.
fn serve(answers: &'static [&'static str]) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hooks/s3cr3t-path", listener.local_addr().expect("it"));
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a client");
            let request = read(&mut stream);
            let _ = sender.send(request);
            if answer.is_empty() {
                kept.push(stream);
                continue;
            }
            let text =
                format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(text.as_bytes()).expect("written");
        }
        std::thread::sleep(Duration::from_secs(5));
    });
    (url, requests)
}

fn read(stream: &mut TcpStream) -> Request {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).expect("a request");
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|l| {
            let (name, value) = l.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let length: usize = length.expect("a length");
        if body.len() >= length {
            let body = serde_json::from_str(body).expect("JSON");
            return Request { head: head.to_lowercase(), body };
        }
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn a_command_gets_the_message_on_its_input_and_in_its_environment() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let line = format!(
        "{{ cat; echo \"$PGORCH_CLUSTER $PGORCH_EVENT $PGORCH_NODE $PGORCH_MESSAGE\"; }} >{}",
        out.display()
    );
    let said = tell(&[command(&line, Duration::from_secs(10))], 1, &Redactor::default());
    assert_eq!(said, [""; 0]);
    let text = text(&out);
    let (json, line) = text.split_once('\n').expect("two lines");
    let json: Value = serde_json::from_str(json).expect("JSON");
    assert_eq!((&json["message"], &json["dropped"]), (&"it's bad".into(), &0.into()));
    assert_eq!(line.trim(), "accounts alarm n1 it's bad");
}

#[test]
fn a_command_that_fails_is_said_with_its_last_line_and_not_repeated() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let line = format!("echo run >>{}; echo no pager >&2; exit 3", out.display());
    let said = tell(&[command(&line, Duration::from_secs(10))], 1, &Redactor::default());
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("alarm to /bin/sh could not be delivered"), "{said:?}");
    assert!(said[0].contains("no pager"), "{said:?}");
    assert_eq!(text(&out), "run\n");
}

#[test]
fn a_command_that_is_not_there_and_one_that_hangs_hold_up_nobody_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let (out, pid) = (dir.path().join("out"), dir.path().join("pid"));
    let missing = ["/nonexistent/page".to_owned()].to_vec();
    let missing =
        Notification { to: Recipient::Command(missing), ..command("", Duration::from_secs(1)) };
    let hangs = format!("sleep 600 & echo $! >{}; wait", pid.display());
    let works = format!("cat >>{}", out.display());
    let all = [
        missing,
        command(&hangs, Duration::from_millis(500)),
        command(&works, Duration::from_secs(10)),
    ];
    let began = Instant::now();
    let said = tell(&all, 2, &Redactor::default());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(text(&out).lines().count(), 2);
    assert_eq!(said.iter().filter(|s| s.contains("cannot run /nonexistent/page")).count(), 2);
    assert_eq!(said.iter().filter(|s| s.contains("was killed")).count(), 2, "{said:?}");
    // With everything that it has started.
    let pid = text(&pid);
    let status = text(Path::new(&format!("/proc/{}/status", pid.trim())));
    assert!(status.is_empty() || status.contains("Z (zombie)"), "{status}");
}

#[test]
fn a_webhook_gets_the_message_and_its_headers() {
    let (url, requests) = serve(&["200 OK"]);
    let mut hook = webhook(&url);
    hook.headers.insert("Authorization".to_owned(), secret("Bearer t0ken"));
    let said = tell(&[post(hook)], 1, &Redactor::default());
    assert_eq!(said, [""; 0]);
    let request = requests.recv().expect("a request");
    assert!(request.head.starts_with("post /hooks/s3cr3t-path http/1.1"), "{}", request.head);
    assert!(request.head.contains("authorization: bearer t0ken"), "{}", request.head);
    assert!(request.head.contains("content-type: application/json"), "{}", request.head);
    assert_eq!(request.body["event"], "alarm");
}

#[test]
fn a_webhook_that_is_in_trouble_is_tried_again() {
    let (url, requests) = serve(&["503 Service Unavailable", "204 No Content"]);
    let said = tell(&[post(webhook(&url))], 1, &Redactor::default());
    assert_eq!(said, [""; 0]);
    let same: Vec<Value> = requests.iter().take(2).map(|r| r.body).collect();
    assert_eq!(same[0], same[1]);
}

#[test]
fn a_webhook_that_never_answers_or_sends_elsewhere_is_given_up_without_its_secrets() {
    let (url, _requests) =
        serve(&["", "302 Found\r\nLocation: http://127.0.0.1:1/", "404 Not Found"]);
    let redactor = Redactor::default();
    redactor.learn("t0ken-in-a-message");
    let began = Instant::now();
    let said = tell(&[post(webhook(&url))], 1, &redactor);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("it answered 404"), "{said:?}");
    assert!(said[0].contains("http://127.0.0.1"), "{said:?}");
    assert!(!said[0].contains("s3cr3t"), "{said:?}");
}

#[test]
fn what_does_not_fit_is_dropped_and_the_next_one_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let slow = format!("sleep 0.05; cat >>{}", out.display());
    let said = Arc::new(Said::default());
    let sink: Arc<dyn Sink> = said.clone();
    let all = [command(&slow, Duration::from_secs(5))];
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let redactor = Redactor::default();
        redactor.learn("it's bad");
        let notifier = Notifier::start(&all, &redactor, &sink).expect("right");
        let began = Instant::now();
        for number in 0..100 {
            notifier.tell(NoticeKind::Alarm, &document(number));
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(notifier.dropped() >= 30, "{}", notifier.dropped());
        // Nobody asked for these.
        notifier.tell(NoticeKind::Suspected, &document(1_000));
        notifier.finish(Duration::from_secs(60)).await;
    });
    let got: Vec<Value> =
        text(&out).lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let dropped: u64 = got.iter().filter_map(|d| d["dropped"].as_u64()).sum();
    assert_eq!(got.len() as u64 + dropped, 100);
    assert!((60..=70).contains(&got.len()), "{}", got.len());
    assert!(got.iter().all(|d| d["message"] == "********"), "{got:?}");
    let said = said.all();
    assert!(said.iter().any(|s| s.contains("were dropped")), "{said:?}");
}

#[test]
fn what_is_of_no_use_is_refused_before_the_watch_begins() {
    let sink: Arc<dyn Sink> = Arc::new(Said::default());
    let start = |webhook: Webhook| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let _inside = runtime.enter();
        Notifier::start(&[post(webhook)], &Redactor::default(), &sink).err().unwrap_or_default()
    };
    assert!(start(webhook("ftp://h/s3cr3t")).contains("https://"), "only HTTP");
    assert!(!start(webhook("s3cr3t")).contains("s3cr3t"));
    let missing = Webhook { ca_file: Some("/nonexistent.pem".to_owned()), ..webhook("https://h") };
    assert!(start(missing).contains("/nonexistent.pem"));
    let empty = Webhook { ca_file: Some("/dev/null".to_owned()), ..webhook("https://h") };
    assert!(start(empty).contains("no certificate"));
}

#[test]
fn recipients_are_declared_in_the_inventory() {
    let read = |text: &str| {
        let text = format!("cluster: c\nnodes: {{a: {{host: h}}}}\nnotifications:\n{text}");
        parse(&Source::new("i", text)).map(|(inventory, _)| inventory)
    };
    let inventory = read(
        "  - {command: page --now, events: alarm}\n  - webhook: {secret: {env: U}}\n    \
         headers: {A: {secret: {env: H}}, B: plain}\n    timeout: 3s\n",
    )
    .expect("right");
    let [first, second] = inventory.notifications.as_slice() else { panic!("two") };
    assert_eq!(first.to, Recipient::Command(vec!["page".to_owned(), "--now".to_owned()]));
    assert_eq!((first.events.as_slice(), first.timeout.as_secs()), (&[NoticeKind::Alarm][..], 10));
    assert_eq!((second.events.clone(), second.timeout.as_secs()), (NoticeKind::usual(), 3));
    // Only a watch needs these.
    assert_eq!(inventory.notification_secrets(), 0..3);
    let known = |n: &str| Some(Secret::new(n));
    let resolved = inventory.with_secrets(&[known("https://x"), known("one"), known("two")]);
    let Recipient::Webhook(hook) = &resolved.notifications[1].to else { panic!("a webhook") };
    assert_eq!(hook.url, secret("https://x"));
    assert_eq!((&hook.headers["A"], &hook.headers["B"]), (&secret("one"), &secret("two")));
    let complaints = |text: &str| {
        let all = read(text).expect_err("wrong");
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(complaints("  - {webhook: example.org, events: [alarms, x]}
  - {command: page, headers: {A: b}, timeout: 0s}
  - {webhook: 'https://', timeout: 1h}
  - {command: page, webhook: 'https://h'}
  - {webhook: 'https://h', headers: {'a b': c}}
"), @r#"
    i:4:15: error: bad "webhook" (an address that begins with https:// or http://)
    i:4:37: error: unknown event "alarms" (did you mean "alarm"?)
    i:4:45: error: unknown event "x" (known: watch_started, watch_stopped, suspected, alarm, well, failover_started, failover_done, failover_failed, primary_changed, restarted, node_trouble, node_well, rejoin_done, rejoin_failed, paused, unpaused)
    i:5:30: error: "headers" is for a webhook, and this is a command
    i:5:47: error: "timeout" must be more than nothing and at most 300s
    i:6:15: error: bad "webhook" (an address with a host in it)
    i:6:36: error: "timeout" must be more than nothing and at most 300s
    i:7:5: error: a notification needs either a "command" or a "webhook" (command: [/usr/local/bin/page], or webhook: https://hooks.example.org/pg)
    i:8:38: error: bad header name "a b"
    "#);
}
