# Boots a host again and again until it is switched off: systemd-nspawn with --keep-unit leaves a
# reboot to whoever started it (status 133). Arguments: the host's version 2 control group, the
# cgroup.procs files of its version 1 groups, `--`, and the command. Rust could do this between
# fork and exec only in unsafe code. For bash: sh need not know descriptors above 9.

# What pgorch itself inherited, a pipe of the CI runner for one, must not stay open with the host.
for entry in /proc/$$/fd/*; do
    fd=${entry##*/}
    if [ "$fd" -gt 2 ]; then exec {fd}>&-; fi
done

top=$1
shift
# Writing 0 moves the process that writes.
echo 0 >"$top/launcher/cgroup.procs" || exit 1
while [ "$1" != -- ]; do
    echo 0 >"$1" || exit 1
    shift
done
shift
status=133
while [ "$status" = 133 ]; do
    # A group that has handed controllers down accepts no process: each boot has a new one. On a
    # busy machine the last processes of the old one take their time to go.
    for _ in {1..100}; do
        [ -e "$top/host" ] || break
        find "$top/host" -depth -type d -exec rmdir {} \; 2>/dev/null
        [ ! -e "$top/host" ] || sleep 0.1
    done
    mkdir "$top/host" || exit 1
    (echo 0 >"$top/host/cgroup.procs" && exec "$@")
    status=$?
done
