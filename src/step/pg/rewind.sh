# Set: data, home, bin, fence, half, pass, conninfo, restore, user.
exec </dev/null
set -eu
cd /
umask 077
trap '' PIPE
fail() { echo "$*" >&2; exit 1; }
# The lock of whatever makes or remakes this directory; it holds on while its commands run.
exec 9>"$home/.making"
flock -n 9 || fail "a base backup or a rewind is at work on $data"
[ -e "$fence" ] || fail "$fence is gone: the unit could start this server meanwhile"
for p in /proc/[0-9]*; do
  if [ "$p/cwd" -ef "$data" ]; then
    comm=
    { read -r comm <"$p/comm"; } 2>/dev/null || :
    case $comm in postgres | postmaster) fail "a server process lives on $data: ${p#/proc/}" ;; esac
  fi
done
: >"$half"
sync "$half" "$home"
rm -f "$data/standby.signal" "$data/recovery.signal"
exec 3>&1 5>&2
rc=$({
  {
    runuser -u "$user" -- env LC_ALL=C PGPASSFILE="$pass" "$bin/pg_rewind" --progress $restore \
      --target-pgdata="$data" --source-server="$conninfo" 2>&1
    echo $? >&4
  } | while IFS= read -r line; do
    case $line in
      *' kB ('*'%)'*)
        set -- $line
        done=${1%/*} total=${1#*/}
        case $done$total in
          *[!0-9]*) echo "$line" >&5 ;;
          *) echo "pgorch-progress $((done * 1024)) $((total * 1024))" >&3 ;;
        esac
        ;;
      *) echo "$line" >&5 ;;
    esac || :
  done
} 4>&1)
[ "$rc" = 0 ] || exit 1
# What came from the primary and is not this node's: whom it follows, its slots. The other files are
# rendered anew by the tasks that follow.
install -o "$user" -g "$user" -m 0600 /dev/null "$data/standby.signal"
rm -f "$data/pgorch.standby.conf" "$data"/*.pgorch-new "$data"/*.pgorch-old "$data"/*.pgorch-try
rm -rf "$data"/pg_replslot/*
sync -f "$data/PG_VERSION" 2>/dev/null || :
rm -f "$half"
sync "$home" 2>/dev/null || :
