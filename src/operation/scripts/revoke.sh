# Set: unit, dir, revoked, psql. The marker and the emptied settings come first and last through
# restarts; a reload alone does not end a receiver while replay is paused (failover review, 6).
put "$revoked" "$epoch"
answer=$(printf '%s\n' "ALTER SYSTEM SET primary_conninfo = '';" "ALTER SYSTEM SET restore_command = '';" \
  'SELECT pg_reload_conf();' | sql 2>&1) || fail "${answer##*ERROR:  }"
empty() {
  echo "SELECT 1 WHERE current_setting('primary_conninfo') = '' AND current_setting('restore_command') = '';" |
    sql 2>/dev/null
}
tries=0
until [ "$(empty)" = 1 ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 100 ] || fail 'the server did not take the emptied primary_conninfo'
  sleep 0.05
done
postmaster=
{ read -r postmaster <"$dir/postmaster.pid"; } 2>/dev/null || fail 'the server is gone'
# The postmaster's children whose title says so; the view hides one that is still connecting.
receivers() {
  for p in /proc/[0-9]*; do
    parent=
    while read -r key value rest; do
      case $key in PPid:) parent=$value; break ;; esac
    done <"$p/status" 2>/dev/null || continue
    [ "$parent" = "$postmaster" ] || continue
    case $(tr '\0' ' ' <"$p/cmdline" 2>/dev/null) in *walreceiver*) echo "${p#/proc/}" ;; esac
  done
}
quiet=0 tries=0
while [ "$quiet" -lt 2 ]; do
  left=$(receivers)
  if [ -n "$left" ]; then
    quiet=0
    kill -TERM $left 2>/dev/null || :
  else
    quiet=$((quiet + 1))
  fi
  tries=$((tries + 1))
  [ "$tries" -lt 100 ] || fail 'a WAL receiver does not end'
  [ "$quiet" -ge 2 ] || sleep 0.1
done
say done 'receives nothing any more'
