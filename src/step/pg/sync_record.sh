# Set: home, rank_epoch, rank_number, record (one line). Stores whom commits may be waiting for, unless a
# newer record is there.
have=
have_epoch=0 have_number=0
{ { read -r have_epoch have_number; read -r have; } <"$home/sync"; } 2>/dev/null || :
if [ "$have" != "$record" ]; then
  if [ "$have_epoch" -gt "$rank_epoch" ] ||
    { [ "$have_epoch" -eq "$rank_epoch" ] && [ "$have_number" -ge "$rank_number" ]; }; then
    fail 'somebody else has changed whom commits wait for since this run looked: run it again'
  fi
  put "$home/sync" "$rank_epoch $rank_number
$record"
fi
