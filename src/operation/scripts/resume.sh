# Set: what pooler.sh needs; new_host is empty where nothing has changed.
set -- 'SHOW DATABASES'
if [ -n "$new_host" ]; then
  # Beside the file that a link may lead to, with its owner and mode, and whole or not at all.
  real=$(readlink -f -- "$config") && [ -f "$real" ] || fail "no file $config"
  awk -v mode=move -v new_host="$new_host" -v new_port="$new_port" "$program" "$real" \
    >"$real.pgorch-new" || fail "cannot write $real.pgorch-new"
  if [ "$(cat "$real")" = "$(cat "$real.pgorch-new")" ]; then
    rm -f "$real.pgorch-new"
  else
    cp --attributes-only --preserve=mode,ownership "$real" "$real.pgorch-new" &&
      sync "$real.pgorch-new" && mv -f "$real.pgorch-new" "$real" && sync "${real%/*}" ||
      fail "cannot write $real"
  fi
  set -- RELOAD "$@"
fi
# It may be coming up just now. What RELOAD complains about may have nothing to do with databases: where
# they point to afterwards counts.
stop=0
end=$(($(date +%s) + 10))
until answer=$(console 10 "$@"); do
  [ "$(date +%s)" -lt "$end" ] || fail "$(why)"
  sleep 0.2
done
stop=1
shown=$answer
if [ -n "$new_host" ]; then
  left=$(pick "$old" | tr '\n' ' ')
  [ -z "$left" ] || fail "$left still points at $(echo $old) after RELOAD, see its log"
fi
let_go || fail "$(why)"
say done 'clients go on'
