# One look of the watch at a host. Set before: dir, home, bin, unit, node, guarded (the file
# that switches the guard on, or empty), suspect (1, or empty).
# Output: key=value lines. Nothing is changed, and next to nothing is forked while a server lives.
up= boot=
{ read -r up v </proc/uptime; } 2>/dev/null || :
{ read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null || :
printf 'uptime=%s\nboot=%s\n' "$up" "$boot"
if [ -n "$dir" ]; then
  pid=
  { read -r pid <"$dir/postmaster.pid"; } 2>/dev/null || :
  live=
  case $pid in
    '' | *[!0-9]*) ;;
    *)
      v=
      { read -r v <"/proc/$pid/comm"; } 2>/dev/null || :
      case $v in
        postgres | postmaster)
          # A zombie has no working directory any more.
          if [ "/proc/$pid/cwd" -ef "$dir" ]; then live=1; printf 'postmaster=%s\n' "$pid"; fi
          ;;
      esac
      ;;
  esac
  if [ -e "$dir/standby.signal" ]; then echo standby_signal=1; fi
  if [ -e "$home/$node.revoked" ]; then echo revoked=1; fi
  if [ -e "$home/$node.fenced" ]; then echo fenced=1; fi
  if [ -n "$guarded" ] && [ -e "$guarded" ]; then echo guarded=1; fi
  if [ -z "$live" ] || [ -n "$suspect" ]; then
    # Side by side: the bus is slow where there is much to do.
    printf 'unit=%s\n' "$(systemctl show -p ActiveState --value -- "$unit" 2>/dev/null)" &
    [ "$(systemctl is-system-running 2>/dev/null)" != stopping ] || echo going_down=1
    wait
  fi
fi
h=
if { { read -r v; read -r h || :; } <"$home/epoch"; } 2>/dev/null; then
  printf 'epoch=%s\noperation=%s\n' "$v" "$h"
fi
if { read -r v <"$home/owner"; } 2>/dev/null; then printf 'owner=%s\n' "$v"; fi
if { read -r v <"$home/pause"; } 2>/dev/null; then printf 'pause=%s\n' "$v"; fi
:
