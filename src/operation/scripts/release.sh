# Set: record, id. Only the operation's own record is closed; a later one's stands.
own=
{ { read -r own; read -r own; } <"$home/epoch"; } 2>/dev/null || :
case $own in
  *"\"$id\""*)
    put "$home/epoch" "$epoch
$record"
    ;;
esac
say done 'over'
