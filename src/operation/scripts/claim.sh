# Set: record (one line of JSON), id. The same operation may claim again.
if [ "$stored" -eq "$epoch" ]; then
  own=
  { { read -r own; read -r own; } <"$home/epoch"; } 2>/dev/null || :
  case $own in *"\"$id\""*) ;; *) refuse "epoch $epoch belongs to another operation" ;; esac
fi
put "$home/epoch" "$epoch
$record"
say done "epoch $epoch"
