# Set: record, guard. Only the operation's own record is closed; a later one's stands.
case $own in
  *"\"$id\""*)
    put "$home/epoch" "$epoch
$record"
    ;;
esac
# A new primary whose standbys acknowledge needs no more than what is renewed.
[ ! -e "$guard" ] || /bin/sh "$guard" settle >&2 || :
say done 'over'
