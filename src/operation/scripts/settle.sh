# Set: asked, seconds, psql. Having the lock means that no promotion step is at work any more.
own=
{ read -r own <"$asked"; } 2>/dev/null || :
end=$(($(date +%s) + seconds))
while :; do
  recovery=$(echo 'SELECT pg_is_in_recovery()' | sql 2>&1)
  case $recovery in
    f)
      say timeline "$(echo "$timeline_sql" | sql)"
      say done 'it is the primary'
      exit 0
      ;;
    t)
      if [ "$own" != "$epoch" ]; then
        say not_promoted 1
        say done 'no promotion was asked for'
        exit 0
      fi
      ;;
  esac
  [ "$(date +%s)" -lt "$end" ] || break
  sleep 0.2
done
echo "still in recovery, and a promotion was asked for" >&2
exit 1
