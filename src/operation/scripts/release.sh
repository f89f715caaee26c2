# Set: record. Only the operation's own record is closed; a later one's stands.
case $own in
  *"\"$id\""*)
    put "$home/epoch" "$epoch
$record"
    ;;
esac
say done 'over'
