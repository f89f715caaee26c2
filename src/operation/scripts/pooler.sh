# Before the steps of a pooler. Set: config, port, user, only (names, a line each), old and nodes ("HOST
# PORT" of each, a line each), new_host, new_port (empty: the same), program (pooler.awk).
export LC_ALL=C only old
tab=$(printf '\t')
stop=1
# The socket's directory may be one that comes and goes with a service (RuntimeDirectory=): it is
# looked for each time, and nothing is left there.
socket_dir() {
  said=$(sed -n 's/^[[:space:]]*unix_socket_dir[[:space:]]*=[[:space:]]*//p' "$config" 2>/dev/null | tail -n 1 | tr -d '\r')
  for dir in "$said" /run/postgresql /run/pgbouncer /tmp; do
    [ -z "$dir" ] || [ ! -S "$dir/.s.PGSQL.$port" ] || return 0
  done
  return 1
}
# console SECONDS STATEMENT...: the admin console's answer, or why there is none. Whoever has the pooler's
# own uid needs no password on its socket.
console() {
  seconds_left=$1
  shift
  socket_dir || { echo "no socket .s.PGSQL.$port: is PgBouncer running?"; return 1; }
  psql=psql
  for at in /usr/lib/postgresql/*/bin/psql /usr/pgsql-*/bin/psql; do
    [ ! -x "$at" ] || psql=$at
  done
  for statement in "$@"; do
    set -- "$@" -c "$statement"
    shift
  done
  (cd / && PGCONNECT_TIMEOUT=5 runuser -u "$user" -- timeout "$seconds_left" "$psql" -XAqw \
    -v ON_ERROR_STOP="$stop" -P footer=off -F "$tab" -h "$dir" -p "$port" -U pgbouncer -d pgbouncer "$@") \
    2>&1 9>&-
}
# Why the console did not do it, in one line.
why() {
  line=$(printf '%s\n' "$answer" | tail -n 1)
  printf '%s' "${line##*ERROR:  }"
}
configured() { awk -v mode=list "$program" "$config"; }
# pick PLACES [NAME=VALUE...]: quoted names of what $shown, the answer to SHOW DATABASES, has there.
pick() {
  places=$1
  export places
  shift
  for setting in "$@"; do
    set -- "$@" -v "$setting"
    shift
  done
  printf '%s\n' "$shown" | awk -v mode=shown -v elsewhere=0 -v paused=0 "$@" "$program"
}
# Whether the pooler is held as a whole: nothing in it belongs to anybody else. That also holds those
# who log in for the first time, and what keeps a minimum of connections open.
whole() {
  case "
$only
" in
    *'
*
'*) return 0 ;;
  esac
  [ -z "$only" ] && [ -z "$(pick "$nodes" elsewhere=1)" ]
}
# each VERB NAMES: the statement for each name, a line each.
each() {
  verb=$1
  names=$2
  set --
  while IFS= read -r name; do
    [ -z "$name" ] || set -- "$@" "$verb $name"
  done <<END
$names
END
  [ $# -eq 0 ] || console "$patience" "$@"
}
# Lets everybody go on whom a change held, at the old place or at the new one.
let_go() {
  patience=10
  if whole; then
    answer=$(console 10 RESUME) || case $answer in *'not paused'*) ;; *) return 1 ;; esac
  fi
  answer=$(each RESUME "$(pick "$old
$new_host $new_port" paused=1)") || return 1
}
