# Set: data, bin, half, fork, timeline, seconds. Output: key=value lines. Each may be missing; nothing
# is changed.
[ ! -e "$half" ] || echo half_rewound=1
v=$(timeout 20 du -sk -- "$data" 2>/dev/null) && printf 'size_kb=%s\n' "${v%%[!0-9]*}" || :
v=$(cd / && runuser -u postgres -- "$bin/postgres" -C restore_command -D "$data" 2>/dev/null) || v=
[ -z "$v" ] || echo restores=1
if [ -n "$fork" ]; then
  # It ends with an error where the WAL ends; which one says whether WAL is missing. "could not find a
  # valid record" is no sign of that: the node had written nothing after the fork.
  {
    LC_ALL=C timeout "$seconds" "$bin/pg_waldump" -p "$data/pg_wal" -t "$timeline" -s "$fork" 2>&1
    echo "pgorch-status $?"
  } | awk '
    /^rmgr: / {
      records++
      if (match($0, /lsn: [0-9A-F]+\/[0-9A-F]+/)) last = substr($0, RSTART + 5, RLENGTH - 5)
      if ($0 ~ /^rmgr: Transaction .*desc: COMMIT/) commits++
    }
    /could not (find|open) file/ { print "missing=1" }
    $1 == "pgorch-status" && $2 == 124 { print "cut=1" }
    END { printf "records=%d\ncommits=%d\nlast=%s\n", records, commits, last }'
fi
:
