# Set: revoked, psql.
if [ -e "$revoked" ]; then
  answer=$(printf '%s\n' 'ALTER SYSTEM RESET primary_conninfo;' 'ALTER SYSTEM RESET restore_command;' \
    'SELECT pg_reload_conf();' | sql 2>&1) || fail "${answer##*ERROR:  }"
  rm -f "$revoked" && sync "$home" || fail "cannot remove $revoked"
fi
say done 'receives again'
