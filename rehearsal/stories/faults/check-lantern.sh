grep -x lit /var/lib/lantern/flame || {
  echo "the lantern is $LANTERN"
  exit 2
}
