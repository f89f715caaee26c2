# Before every step. Set: epoch, id, home, lock_wait, way (forward, back, any or release), replaces
# (ids of operations), open (this operation's record, as one line of JSON). A verdict is a line
# "refused=...", "failed=..." or "done=..."; without one the step's outcome is not known.
say() { printf '%s=%s\n' "$1" "$2"; }
refuse() { say refused "$1"; exit 0; }
fail() { say failed "$1"; exit 0; }
# A whole file takes the place of the old one, and is on disk before the next line runs. On a full disk
# there is room kept for that: a primary that went down for lack of space must be fenced all the same.
put() { put_once "$1" "$2" || { rm -f "$home/room" && put_once "$1" "$2"; } || fail "cannot write $1"; }
put_once() {
  { printf '%s\n' "$2" >"$1.pgorch-new"; } 2>/dev/null && sync "$1.pgorch-new" &&
    mv -f "$1.pgorch-new" "$1" && sync "${1%/*}"
}
# SQL on standard input, as the superuser; rows unaligned.
sql() { (cd / && eval "$psql"); }
# allow lease|grant SECONDS: what the guard, where there is one, must know before the server is writable.
allow() {
  [ -e "$guard" ] || return 0
  said=$(/bin/sh "$guard" allow "$1" "$2" 2>&1) && [ -z "$said" ] || fail "the guard does not take the $1: $said"
}
# shorten: what the step itself needed is over; what is left at most is in the operation's record.
shorten() {
  [ -e "$guard" ] || return 0
  /bin/sh "$guard" shorten "$first" >&2 && say lease_ms "$((first * 1000))" || :
}
# in_time: a step that makes a server writable does so only while its sender may count on it. Set: boot, until.
in_time() {
  read -r is </proc/sys/kernel/random/boot_id && read -r up rest </proc/uptime || fail 'this host has no clock'
  [ "$is" = "$boot" ] || refuse 'this host has booted since the operation looked at it'
  [ "${up%.*}" -lt "$until" ] || refuse 'this step was on its way for too long'
}
if [ ! -d "$home" ]; then mkdir -p "$home" && chmod 0700 "$home" || fail "cannot make $home"; fi
[ -s "$home/room" ] || head -c 65536 /dev/zero >"$home/room" 2>/dev/null || :
# From here to the end of the step nobody else's step runs on this host: the test of the epoch and
# what follows are one.
exec 9>>"$home/epoch.lock" || fail "cannot open $home/epoch.lock"
flock -w "$lock_wait" 9 || refuse "a step of another operation is at work here"
stored=0 own=
{ { read -r stored; read -r own; } <"$home/epoch"; } 2>/dev/null || :
case $stored in '' | *[!0-9]*) stored=0 ;; esac
if [ "$stored" -gt "$epoch" ]; then
  refuse "epoch $stored is stored here, and this operation has $epoch: a later one has begun"
fi
turned=
{ read -r turned <"$home/turned"; } 2>/dev/null || :
# A command may arrive long after its sender gave it up: what is over stays over, and what is being
# undone is not done again.
if [ "$way" != release ]; then
  if [ "$stored" -lt "$epoch" ]; then
    case $own in
      *'"state":"open"'*)
        other=${own#*\"id\":\"}
        other=${other%%\"*}
        case " $replaces " in
          *" $other "*) ;;
          *) refuse 'another operation has begun here and is not over: pgorch resume' ;;
        esac
        ;;
    esac
    put "$home/epoch" "$epoch
$open"
  else
    case $own in *"\"$id\""*) ;; *) refuse "epoch $epoch belongs to another operation" ;; esac
    case $own in *'"state":"open"'*) ;; *) refuse 'this operation is over' ;; esac
  fi
  case $way in
    forward) [ "$turned" != "$epoch" ] || refuse 'this operation is being undone' ;;
    back) [ "$turned" = "$epoch" ] || put "$home/turned" "$epoch" ;;
  esac
fi
