# Set: dir, conf (text of the file), names (the setting's value), publish (1: also have the checkpointer
# take it), psql.
shown() { echo 'SHOW synchronous_standby_names' | sql 2>&1; }
file=$dir/pgorch.sync.conf
if [ "$(cat "$file" 2>/dev/null)" = "${conf%?}" ] && [ "$(shown)" = "$names" ]; then
  say unchanged 1
else
  printf '%s' "$conf" >"$file.pgorch-new" && chown postgres:postgres "$file.pgorch-new" &&
    chmod 0600 "$file.pgorch-new" && sync "$file.pgorch-new" && mv -f "$file.pgorch-new" "$file" ||
    fail "cannot write $file"
  answer=$(echo 'SELECT pg_reload_conf()' | sql 2>&1) || fail "reload: $answer"
  # A session that began after the postmaster has read its files.
  tries=0
  until [ "$(shown)" = "$names" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 50 ] || fail "synchronous_standby_names is still '$(shown)': see postgresql.auto.conf"
    sleep 0.1
  done
  # That commits wait at all is told by the checkpointer, which reads its files before each checkpoint.
  [ "$publish" = 0 ] || answer=$(echo CHECKPOINT | sql 2>&1) || fail "checkpoint: $answer"
fi
