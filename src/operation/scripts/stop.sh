# Set: unit, dir, bin, fence, marker, seconds. The marker comes first: a host that goes down in
# the middle does not come up writable by itself.
group=$(systemctl show -p ControlGroup --value -- "$unit")
put "$fence" "$marker"
if ! timeout "$seconds" systemctl stop -- "$unit"; then
  fail "systemctl stop $unit did not end within $seconds s: $(systemctl is-active -- "$unit")"
fi
state=$(systemctl show -p ActiveState --value -- "$unit")
case $state in
  inactive | failed) ;;
  *) fail "the unit $unit is $state after the stop" ;;
esac
# The unified hierarchy, or systemd's own where the controllers are of version 1.
for at in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
  if [ -n "$group" ] && [ -r "$at$group/cgroup.procs" ]; then
    left=
    read -r left <"$at$group/cgroup.procs" || :
    [ -z "$left" ] || fail "a process of $unit lives on after the stop: $left"
  fi
done
for p in /proc/[0-9]*; do
  if [ "$p/cwd" -ef "$dir" ]; then
    comm=
    { read -r comm <"$p/comm"; } 2>/dev/null || :
    case $comm in postgres | postmaster) fail "a server process lives on $dir: ${p#/proc/}" ;; esac
  fi
done
control=$(LC_ALL=C "$bin/pg_controldata" -D "$dir" 2>&1) || fail "pg_controldata: $control"
state= lsn= timeline=
while IFS= read -r line; do
  value=${line#*:}
  value=${value#"${value%%[! ]*}"}
  case $line in
    'Database cluster state:'*) state=$value ;;
    'Latest checkpoint location:'*) lsn=$value ;;
    "Latest checkpoint's TimeLineID:"*) timeline=$value ;;
  esac
done <<END
$control
END
[ "$state" = 'shut down' ] || fail "the control file says \"$state\", not \"shut down\""
say shutdown_lsn "$lsn"
say shutdown_timeline "$timeline"
say done "stopped, WAL ends with the checkpoint at $lsn on timeline $timeline"
