//! Commands that must run to their end although our connection dies.

use super::content::own_shell;
use crate::model::{Script, quote};

/// Runs `body` in a session of its own with its output in a file, and shows that file as it grows.
/// A lost connection kills only the showing: a package manager killed by a broken pipe leaves
/// half-configured packages. If `body` fails, the end of its output is the error text.
pub(super) fn detached(body: &str) -> Script {
    let text = format!(
        "umask 077\n\
         log=$(mktemp /tmp/pgorch.XXXXXXXXXX) || exit 1\n\
         export log\n\
         setsid sh -c {} >\"$log\" 2>&1 </dev/null &\n\
         pid=$!\n\
         trap 'exit 1' HUP INT TERM PIPE\n\
         tail -n +1 -s 0.2 -f --pid=\"$pid\" -- \"$log\"\n\
         wait \"$pid\"; rc=$?\n\
         if [ \"$rc\" -ne 0 ]; then\n\
         {{ grep -E '^(E:|dpkg: error)' -- \"$log\" | awk '!seen[$0]++' | tail -n 20 | grep . || tail -n 20 -- \"$log\"; }} >&2\n\
         fi\n\
         rm -f -- \"$log\"\n\
         exit \"$rc\"",
        quote(body)
    );
    own_shell(&text)
}
