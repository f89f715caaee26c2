//! Whose the cluster is: the one watch that renews its leases and replaces its primary, as each voter has it
//! stored in `<home>/owner`.

use crate::model::Script;

/// Stores this watch's name on a voter, where no other's is, or in the place of another's with `take`.
/// Its answer is `own=1`, or `other=` and whose it is.
#[must_use]
pub fn own_script(home: &str, identity: &str, take: bool) -> Script {
    Script::new()
        .set("home", home)
        .set("own", identity)
        .set("take", if take { "1" } else { "" })
        .line("umask 077")
        .line("mkdir -p \"$home\" && exec 9>>\"$home/epoch.lock\" && flock -w 5 9 || exit 1")
        // What a failover needs on a primary whose disk is full; scripts/prelude.sh uses it up.
        .line("[ -s \"$home/room\" ] || head -c 65536 /dev/zero >\"$home/room\" 2>/dev/null || :")
        .line("is=")
        .line("{ read -r is <\"$home/owner\"; } 2>/dev/null || :")
        .line("if [ -n \"$is\" ] && [ \"$is\" != \"$own\" ] && [ -z \"$take\" ]; then")
        .line("  printf 'other=%s\\n' \"$is\"; exit 0")
        .line("fi")
        .line("[ \"$is\" = \"$own\" ] || {")
        .line("  printf '%s\\n' \"$own\" >\"$home/owner.new\" && sync \"$home/owner.new\" &&")
        .line("  mv -f \"$home/owner.new\" \"$home/owner\" && sync \"$home\"")
        .line("} || exit 1")
        .line("echo own=1")
}
