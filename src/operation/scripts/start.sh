# Set: unit, fence, guard, first, seconds, psql. Back to what it was before the stop.
rm -f "$fence" && sync "$home" || fail "cannot remove $fence"
allow grant "$seconds"
systemctl reset-failed -- "$unit" 2>/dev/null || :
timeout "$seconds" systemctl start -- "$unit" ||
  fail "systemctl start $unit: $(journalctl --no-pager -q -o cat -n 3 -u "$unit" 2>/dev/null | tail -n 1)"
recovery=$(echo 'SELECT pg_is_in_recovery()' | sql 2>&1)
[ "$recovery" = f ] || fail "the server is not writable again: $recovery"
shorten
say done 'started as before'
