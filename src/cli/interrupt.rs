//! Ctrl-C: the first lets the step in hand finish, the second stops it at once on its host, the
//! third does not wait for that either.

use std::io::IsTerminal as _;

use tokio::sync::watch;

use crate::ui::Printer;

/// So many interrupts, and nothing is waited for.
pub(super) const GIVEN_UP: u8 = 3;

/// Counts interrupts (SIGINT, SIGTERM) from now on.
pub(super) fn listen() -> watch::Receiver<u8> {
    let (sender, receiver) = watch::channel(0u8);
    tokio::spawn(async move {
        let term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        let mut term = term.ok();
        for count in 1..=GIVEN_UP {
            let terminated = async {
                match &mut term {
                    Some(term) => {
                        term.recv().await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                () = terminated => {}
            }
            if super::secrets::give_back_terminal() {
                Printer.err("\n");
                #[expect(
                    clippy::exit,
                    reason = "the thread that reads the terminal cannot be woken"
                )]
                std::process::exit(i32::from(crate::model::Exit::Interrupted.code()));
            }
            if std::io::stderr().is_terminal() {
                // Behind the terminal's own ^C.
                Printer.err("\n");
            }
            Printer.err(match count {
                1 => "interrupted: the step in hand is finished first; again to stop at once\n",
                2 => "interrupted: stopping what runs on the hosts; again not to wait for that\n",
                _ => "",
            });
            if sender.send(count).is_err() {
                return;
            }
        }
    });
    receiver
}
