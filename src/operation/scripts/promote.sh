# Set: asked, guard, first, seconds, received, psql, state_sql, promote_sql. One session from the last look at
# the WAL to the first write. "$asked" tells whoever comes later that a promotion was asked for, and of
# which start of the server: a promotion that is not over when the server goes down is forgotten.
rc=0
both=$(printf '%s\n%s\n' "$state_sql" "$received" | sql 2>&1) || rc=$?
state=
while read -r line; do case $line in [tf]\|*) state=$line ;; esac; done <<END
$both
END
case $state in
  t\|*)
    [ "$rc" = 0 ] || fail "${both##*ERROR:  }"
    put "$asked" "$epoch ${state#*|}"
    ;;
  f\|*)
    own=
    { read -r own _ <"$asked"; } 2>/dev/null || :
    [ "$own" = "$epoch" ] || refuse 'it is out of recovery, and this operation did not promote it'
    ;;
  *) fail "no answer of the server: $both" ;;
esac
# Before it is writable, and for as long as that may take; it is shortened when the siblings are told.
allow lease "$((seconds + first))"
if ! answer=$(printf '%s\n' "$promote_sql" | sql 2>&1); then
  printf '%s\n' "$answer" >&2
  exit 1
fi
say timeline "$(printf '%s\n' "$answer" | tail -n 1)"
say done 'writable'
