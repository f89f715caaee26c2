# Set: seconds, and what pooler.sh needs. Clients wait from here on; their transactions may end first.
answer=$(console 10 'SHOW DATABASES') || fail "$(why)"
shown=$answer
patience=$seconds
if whole; then
  rc=0
  answer=$(console "$patience" PAUSE) || rc=$?
  # A pause that began earlier may not be over yet, and cannot be waited for.
  case $rc,$answer in
    0,* | 124,*) ;;
    *already*)
      rc=0
      answer=$(console 10 RESUME && console "$patience" PAUSE) || rc=$?
      ;;
  esac
else
  names=$(pick "$old")
  [ -n "$names" ] || refuse "none of its databases points at $old"
  rc=0
  answer=$(each PAUSE "$names") || rc=$?
fi
[ "$rc" -ne 0 ] || { say done 'clients wait'; exit 0; }
case $rc in
  124) reason="clients are in transactions that did not end within $seconds s" ;;
  *) reason=$(why) ;;
esac
answer=$(console 10 'SHOW DATABASES') && shown=$answer && let_go || reason="$reason; RESUME: $(why)"
fail "$reason"
