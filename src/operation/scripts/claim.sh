# What stands before every step has stored the epoch, or refused. Set: open. An election may have
# changed the candidate since.
[ "$stored" -lt "$epoch" ] || [ "$own" = "$open" ] || put "$home/epoch" "$epoch
$open"
say done "epoch $epoch"
