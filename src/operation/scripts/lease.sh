# Set: guard, home, epoch, lock_wait, words (of the guard's command). The test of the epoch and what
# follows are one, under the lock of all steps on this host; the node's reading is the answer.
[ -e "$guard" ] || { echo refused=no_guard; exit 0; }
{ exec 9>>"$home/epoch.lock"; } 2>/dev/null || { echo refused=no_home; exit 0; }
flock -w "$lock_wait" 9 || { echo refused=busy; exit 0; }
stored=0
{ read -r stored <"$home/epoch"; } 2>/dev/null || :
case $stored in '' | *[!0-9]*) stored=0 ;; esac
[ "$stored" -le "$epoch" ] || { echo "refused=newer $stored"; exit 0; }
# Whoever gives a lease has stored its epoch here first.
[ "$stored" -ge "$epoch" ] || { echo "refused=older $stored"; exit 0; }
set -- $words
/bin/sh "$guard" "$@" 9>&- || echo "refused=failed exit status $?"
