# Set: dir, bin, position_sql, psql. Where valid WAL ends on this standby: what it has received in this
# life of the server, else what is on disk from the replay position on (failover review, 7).
answer=$(printf '%s\n' "$position_sql" | sql 2>&1) || fail "${answer##*ERROR:  }"
# recovery|timeline|receive|replay
IFS='|' read -r recovery timeline receive replay <<END
$answer
END
[ "$recovery" = t ] || fail 'it is not in recovery'
if [ -z "$receive" ]; then
  [ -n "$replay" ] || fail 'it cannot tell where its WAL ends'
  receive=$(timeout 60 "$bin/pg_waldump" -q -p "$dir/pg_wal" -t "$timeline" -s "$replay" 2>&1 >/dev/null |
    sed -n 's/.* at \([0-9A-F]*\/[0-9A-F]*\):.*/\1/p' | tail -n 1)
  [ -n "$receive" ] || fail 'it cannot tell where its WAL ends: pg_waldump finds no end'
fi
# The control file shows a new timeline only after the next restartpoint; the history file is there
# from the moment that the standby follows it, which may be before it has anything of it.
newest=
for file in "$dir"/pg_wal/????????.history; do
  [ ! -f "$file" ] || newest=$file
done
if [ -n "$newest" ]; then
  say history_of "${newest##*/}"
  while read -r number end rest; do
    case $number in '' | *[!0-9]*) ;; *) say ancestor "$number $end" ;; esac
  done <"$newest"
fi
say end_timeline "$timeline"
say end_lsn "$receive"
say replay_lsn "$replay"
say done "WAL ends at $receive"
