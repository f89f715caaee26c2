# Set: asked, guard, first, seconds, psql, state_sql, timeline_sql. Having the lock means that no promotion step is at
# work any more; one that arrives later is refused, by its epoch or because this one turns back.
own= start=
{ read -r own start <"$asked"; } 2>/dev/null || :
end=$(($(date +%s) + seconds))
while :; do
  state=$(printf '%s\n' "$state_sql" | sql 2>&1)
  case $state in
    f\|*)
      shorten
      say timeline "$(echo "$timeline_sql" | sql)"
      say done 'it is the primary'
      exit 0
      ;;
    t\|*)
      # Whoever asked: this start of the server has not heard of it.
      if [ "$start" != "${state#*|}" ]; then
        put "$home/turned" "$epoch"
        [ ! -e "$guard" ] || /bin/sh "$guard" withdraw >&2 || :
        say not_promoted 1
        say done 'no promotion was asked for'
        exit 0
      fi
      ;;
  esac
  [ "$(date +%s)" -lt "$end" ] || break
  sleep 0.2
done
case $state in
  t\|*) echo 'a promotion was asked for and is not over; a restart of this server would end it' >&2 ;;
  *) echo "no answer of the server: $state" >&2 ;;
esac
exit 1
