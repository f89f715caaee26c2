# Set: asked, guard, first, seconds, received, psql, state_sql, promote_sql. One session from the last look at
# the WAL to the first write. "$asked" tells whoever comes later that a promotion was asked for, and of
# which start of the server: a promotion that is not over when the server goes down is forgotten.
state=$(printf '%s\n' "$state_sql" | sql 2>&1)
case $state in
  t\|*) ;;
  f\|*)
    own=
    { read -r own _ <"$asked"; } 2>/dev/null || :
    [ "$own" = "$epoch" ] || refuse 'it is out of recovery, and this operation did not promote it'
    ;;
  *) fail "no answer of the server: $state" ;;
esac
if [ "${state%%|*}" = t ]; then
  there=$(printf '%s\n' "$received" | sql 2>&1) || fail "${there##*ERROR:  }"
  put "$asked" "$epoch ${state#*|}"
fi
# Before it is writable, and for as long as that may take; it is shortened when the siblings are told.
allow lease "$((seconds + first))"
if ! answer=$(printf '%s\n' "$promote_sql" | sql 2>&1); then
  printf '%s\n' "$answer" >&2
  exit 1
fi
say timeline "$(printf '%s\n' "$answer" | tail -n 1)"
say done 'writable'
