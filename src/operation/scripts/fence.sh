# Set: unit, dir, bin, fence, marker, seconds, vip (script of the virtual address, or empty). A server that may hang is not asked: SIGCONT, which
# systemctl stop sends, would let a frozen one confirm what it had in hand (failover review, 9).
group=$(systemctl show -p ControlGroup --value -- "$unit")
put "$fence" "$marker"
# Processes of the unit, and servers on the data directory that were started past it; somebody's shell
# in there is left alone.
members() {
  for at in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    if [ -n "$group" ] && [ -r "$at$group/cgroup.procs" ]; then
      find "$at$group" -name cgroup.procs -exec cat {} + 2>/dev/null
    fi
  done
  for p in /proc/[0-9]*; do
    if [ "$p/cwd" -ef "$dir" ]; then
      comm=
      { read -r comm <"$p/comm"; } 2>/dev/null || :
      case $comm in postgres | postmaster) echo "${p#/proc/}" ;; esac
    fi
  done
}
# Killed is: gone, a zombie, or in a system call with SIGKILL pending, from which no answer comes.
alive() {
  for pid in $(members | sort -un); do
    state= pending=
    while read -r key value rest; do
      case $key in
        State:) state=$value ;;
        ShdPnd: | SigPnd:) pending="$pending $value" ;;
      esac
    done <"/proc/$pid/status" 2>/dev/null || continue
    case $state in Z | X | '') continue ;; esac
    case $state$pending in
      D*[13579bdf][0-9a-f][0-9a-f]\ * | D*[13579bdf][0-9a-f][0-9a-f]) continue ;;
    esac
    echo "$pid"
  done
}
end=$(($(date +%s) + seconds))
killed=0
while :; do
  left=$(alive)
  [ -n "$left" ] || break
  kill -KILL $left 2>/dev/null || :
  killed=1
  [ "$(date +%s)" -le "$end" ] || fail "processes live on after SIGKILL: $(echo $left)"
  sleep 0.02
done
timeout "$seconds" systemctl stop -- "$unit" || fail "the unit $unit does not come to rest"
state=$(systemctl show -p ActiveState --value -- "$unit")
case $state in
  inactive | failed) ;;
  *) fail "the unit $unit is $state after the kill" ;;
esac
[ -z "$(alive)" ] || fail 'a process has come back'
# The unit gives the virtual address up when its server ends. Who was down before may have been given it
# since, and that it cannot be given up keeps no primary from being fenced.
if [ -n "$vip" ] && [ -e "$vip" ]; then sh "$vip" down >&2 9>&- || :; fi
# Where its WAL ends, for the count of what is lost; it is no matter of safety.
control=$(LC_ALL=C "$bin/pg_controldata" -D "$dir" 2>/dev/null) || control=
from=$(printf '%s\n' "$control" | sed -n "s/^Latest checkpoint's REDO location: *//p")
timeline=$(printf '%s\n' "$control" | sed -n "s/^Latest checkpoint's TimeLineID: *//p")
if [ -n "$from" ] && [ -n "$timeline" ]; then
  last=$(timeout 20 "$bin/pg_waldump" -q -p "$dir/pg_wal" -t "$timeline" -s "$from" 2>&1 >/dev/null |
    sed -n 's/.* at \([0-9A-F]*\/[0-9A-F]*\):.*/\1/p' | tail -n 1)
  [ -z "$last" ] || { say end_timeline "$timeline"; say end_lsn "$last"; }
fi
if [ "$killed" = 1 ]; then say done 'killed, and fenced'; else say was_down 1; say done 'it was down; fenced'; fi
