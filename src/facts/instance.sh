# Facts of an instance at rest. Set before: dir, home, bin, unit, node, guarded. Output: key=value lines and
# [sections] that end with [end]. Each thing may be missing; nothing is changed.
v=$("$bin/postgres" --version 2>/dev/null) && printf 'binary=%s\n' "$v" || :

# The nearest directory that exists; one that we may not search hides what is below it.
p=$dir
while [ ! -d "$p" ] && [ "$p" != "${p%/*}" ]; do p=${p%/*}; done
[ -n "$p" ] || p=/
if [ ! -x "$p" ] || [ ! -r "$p" ]; then
  s=foreign
elif [ ! -e "$dir" ] && [ ! -L "$dir" ]; then
  s=missing
elif [ ! -d "$dir" ]; then
  s=foreign
elif [ -f "$dir/PG_VERSION" ]; then
  s=cluster
else
  s=empty
  for f in "$dir"/* "$dir"/.[!.]* "$dir"/..?*; do
    if [ -e "$f" ] || [ -L "$f" ]; then s=foreign; break; fi
  done
fi
printf 'dir=%s\n' "$s"

if [ "$s" = cluster ]; then
  if { read -r v <"$dir/PG_VERSION"; } 2>/dev/null; then printf 'major=%s\n' "$v"; fi
  if [ -e "$dir/standby.signal" ]; then echo standby_signal=1; fi
  if [ -e "$dir/recovery.signal" ]; then echo recovery_signal=1; fi

  # A read that meets a write gives a warning about the CRC and rubbish: look again.
  for f in 1 2 3; do
    v=$(LC_ALL=C "$bin/pg_controldata" -D "$dir" 2>&1) || :
    case $v in *[Ww][Aa][Rr][Nn][Ii][Nn][Gg]*) ;; *) break ;; esac
  done
  printf '[control]\n%s\n[end]\n' "$v"

  # Line 1: pid, 2: data directory, 3: start, 4: port. The pid may be another process's by now.
  pid= port=
  { { read -r pid; read -r v; read -r v; read -r port; } <"$dir/postmaster.pid"; } 2>/dev/null || :
  case $pid in
    '' | *[!0-9]*) ;;
    *)
      v=
      { read -r v <"/proc/$pid/comm"; } 2>/dev/null || :
      case $v in
        postgres | postmaster)
          if [ "/proc/$pid/cwd" -ef "$dir" ]; then
            printf 'postmaster=%s\npostmaster_port=%s\n' "$pid" "$port"
            # A package manager renames a new file into place; the old one lives on without a name.
            if [ -e "/proc/$pid/exe" ] && [ -e "$bin/postgres" ] &&
              ! [ "/proc/$pid/exe" -ef "$bin/postgres" ]; then
              echo binary_replaced=1
            fi
          fi
          ;;
      esac
      ;;
  esac

  # The history of the newest timeline that this directory knows.
  h=
  for f in "$dir"/pg_wal/????????.history; do if [ -f "$f" ]; then h=$f; fi; done
  if [ -n "$h" ]; then
    printf 'history_of=%s\n[history]\n' "${h##*/}"
    while IFS= read -r v || [ -n "$v" ]; do printf '%s\n' "$v"; done <"$h"
    printf '\n[end]\n'
  fi

  # The newest timeline that WAL was written or received on; pg_control learns it at a checkpoint only.
  h=
  for f in "$dir"/pg_wal/[0-9A-F][0-9A-F][0-9A-F][0-9A-F][0-9A-F][0-9A-F][0-9A-F][0-9A-F]????????????????; do
    if [ -f "$f" ]; then h=${f##*/}; fi
  done
  if [ -n "$h" ]; then printf 'wal_file=%s\n' "$h"; fi

  # Change times, not modification times: a rename into place counts.
  printf '[changed]\n'
  stat -c '%.6Z %n' "$dir/postgresql.conf" "$dir"/pgorch*.conf "$dir/postgresql.auto.conf" \
    "$dir/pg_hba.conf" "$dir/pg_ident.conf" 2>/dev/null || :
  printf '[end]\n'
fi

if { read -r v <"$home/$node.made"; } 2>/dev/null; then printf 'made=%s\n' "$v"; fi
# Line 1: the epoch, 2: the operation. A whole file takes the place of the old one, so both are of one.
h=
if { { read -r v; read -r h || :; } <"$home/epoch"; } 2>/dev/null; then
  printf 'epoch=%s\noperation=%s\n' "$v" "$h"
fi
if { read -r v <"$home/pause"; } 2>/dev/null; then printf 'pause=%s\n' "$v"; fi
# Line 1: epoch and number, 2: whom commits may be waiting for.
h=
if { { read -r v; read -r h; } <"$home/sync"; } 2>/dev/null; then printf 'sync=%s\n' "$h"; fi
if [ -e "$home/$node.revoked" ]; then echo revoked=1; fi
if [ -e "$guarded" ]; then echo guarded=1; fi
if { read -r v <"$home/owner"; } 2>/dev/null; then printf 'owner=%s\n' "$v"; fi
if [ -e "$home/$node.fenced" ]; then
  v=
  { read -r v <"$home/$node.fenced"; } 2>/dev/null || :
  printf 'fenced=%s\n' "${v:-yes}"
fi
if [ -r "$home/passfile" ]; then
  while IFS= read -r v || [ -n "$v" ]; do
    case $v in *:replicator:*) printf 'pass=%s\n' "$v" ;; esac
  done <"$home/passfile"
fi

printf '[unit]\n'
systemctl show -p LoadState -p ActiveState -p SubState -p UnitFileState -p MainPID \
  -p NeedDaemonReload -p ExecStartPre -- "$unit" 2>/dev/null || :
printf '[end]\n[df]\n'
df -Pk "$p" 2>/dev/null || :
printf '[end]\n'
:
