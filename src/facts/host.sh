# Facts of a host. Output: key=value lines. Each thing may be missing; nothing is changed.
v=$(date +%s.%N) && printf 'epoch=%s\n' "$v"
if [ -r /etc/os-release ]; then
  while IFS= read -r v; do printf 'os.%s\n' "$v"; done </etc/os-release
fi
v=$(uname -m) && printf 'architecture=%s\n' "$v"
for f in osrelease hostname random/boot_id; do
  if { read -r v <"/proc/sys/kernel/$f"; } 2>/dev/null; then printf '%s=%s\n' "${f##*/}" "$v"; fi
done
if { read -r f v <"/proc/meminfo"; } 2>/dev/null; then printf 'memory=%s\n' "$v"; fi
if { read -r v f <"/proc/uptime"; } 2>/dev/null; then printf 'uptime=%s\n' "$v"; fi
v=$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null) && printf 'cpus=%s\n' "$v"
if [ -n "${LANG:-}" ]; then
  printf 'lang=%s\n' "$LANG"
else
  for f in /etc/default/locale /etc/locale.conf; do
    if [ -r "$f" ]; then
      while IFS= read -r v; do printf 'locale.%s\n' "$v"; done <"$f"
      break
    fi
  done
fi
v=$(systemctl --version 2>/dev/null) && printf 'systemd=%s\n' "${v%%(*}"
v=$(hostname -I 2>/dev/null) && printf 'addresses=%s\n' "$v"
:
