# Before a change of whom commits wait for, outside of operations. Set: home, seen (the epoch that the
# run has seen). From here to its end nobody else's step runs on this host.
fail() { printf '%s\n' "$1" >&2; exit 1; }
say() { :; }
put() {
  printf '%s\n' "$2" >"$1.pgorch-new" && sync "$1.pgorch-new" && mv -f "$1.pgorch-new" "$1" &&
    sync "${1%/*}" || fail "cannot write $1"
}
sql() { (cd / && eval "$psql"); }
if [ ! -d "$home" ]; then mkdir -p "$home" && chmod 0700 "$home" || fail "cannot make $home"; fi
exec 9>>"$home/epoch.lock" || fail "cannot open $home/epoch.lock"
flock -w 5 9 || fail 'a step of an operation is at work here'
stored=0 own=
{ { read -r stored; read -r own; } <"$home/epoch"; } 2>/dev/null || :
case $stored in '' | *[!0-9]*) stored=0 ;; esac
[ "$stored" -le "$seen" ] || fail "epoch $stored is stored here: an operation has begun since this run looked"
case $own in *'"state":"open"'*) fail 'an operation is not over here: pgorch resume' ;; esac
