# Set: unit, dir, fence, start, conf (the text of pgorch.standby.conf), streaming, unused, psql.
file=$dir/pgorch.standby.conf
printf '%s' "$conf" >"$file.pgorch-new" && chown postgres:postgres "$file.pgorch-new" &&
  chmod 0600 "$file.pgorch-new" && sync "$file.pgorch-new" && mv -f "$file.pgorch-new" "$file" ||
  fail "cannot write $file"
if [ "$start" = 1 ] && ! systemctl is-active -q -- "$unit"; then
  [ ! -e "$dir/postmaster.pid" ] || fail "$dir/postmaster.pid is there: a server may be running"
  state=$(LC_ALL=C "$bin/pg_controldata" -D "$dir" 2>&1 | sed -n 's/^Database cluster state: *//p')
  case $state in
    'shut down' | 'shut down in recovery') ;;
    *) fail "its control file says \"$state\": it did not stop cleanly, so: pgorch rejoin" ;;
  esac
  # Before the marker goes: without the signal it would come up as a primary.
  install -o postgres -g postgres -m 0600 /dev/null "$dir/standby.signal" && sync "$dir" ||
    fail "cannot write $dir/standby.signal"
  rm -f "$fence" && sync "$home" || fail "cannot remove $fence"
  systemctl reset-failed -- "$unit" 2>/dev/null || :
  timeout 300 systemctl start -- "$unit" ||
    fail "systemctl start $unit: $(journalctl --no-pager -q -o cat -n 3 -u "$unit" 2>/dev/null | tail -n 1)"
else
  recovery=$(echo 'SELECT pg_is_in_recovery()' | sql 2>&1)
  [ "$recovery" = t ] || fail "it is no standby that answers: $recovery"
  # What a revocation left has a higher rank than our file, and goes last.
  if [ -e "$revoked" ]; then
    answer=$(printf '%s\n' 'ALTER SYSTEM RESET primary_conninfo;' \
      'ALTER SYSTEM RESET restore_command;' | sql 2>&1) || fail "${answer##*ERROR:  }"
    rm -f "$revoked"
  fi
  # The promoted one's slots are there, so nothing is lost while the receiver changes over.
  answer=$(echo 'SELECT pg_reload_conf()' | sql 2>&1) || fail "reload: $answer"
fi
answer=$(printf '%s\n' "$streaming" | sql 2>&1) || fail "${answer##*ERROR:  }"
[ -z "$unused" ] || printf '%s\n' "$unused" | sql >/dev/null 2>&1 || :
say done 'streams'
