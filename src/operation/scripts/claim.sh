# What stands before every step has stored the epoch, or refused. Set: open. An election may have
# changed the candidate since.
[ "$stored" -lt "$epoch" ] || [ "$own" = "$open" ] || put "$home/epoch" "$epoch
$open"
# Whoever waits for what was given before must know of it.
if [ "$stored" -lt "$epoch" ]; then
  say before_epoch "$stored"
  say before "$own"
fi
# Whom commits may be waiting for: from here on nobody with a lower epoch changes it here.
have=
{ { read -r have; read -r have; } <"$home/sync"; } 2>/dev/null || :
[ -z "$have" ] || say sync "$have"
say done "epoch $epoch"
