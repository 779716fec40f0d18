# nginx-workers started|remember|renewed: from within NGINX's unit, where $MAINPID is its master, makes a start or a reload
# last until it has come true. `started` waits for the first worker, `renewed` for one that `remember` has not met.

remembered=$RUNTIME_DIRECTORY/workers

# Prints the process numbers of workers that take connections; those of a former configuration call themselves
# "nginx: worker process is shutting down".
workers() {
  children=()
  { read -r -a children <"/proc/$MAINPID/task/$MAINPID/children" || true; } 2>/dev/null
  for child in "${children[@]}"; do
    IFS= read -r -d '' title <"/proc/$child/cmdline" || true
    [ "$title" != "nginx: worker process" ] || echo "$child"
  done 2>/dev/null
}

# has_new FORMER: whether a worker takes connections that is not one of the FORMER ones.
has_new() {
  for worker in $(workers); do
    [[ " $1 " == *" $worker "* ]] || return 0
  done
  return 1
}

fail() {
  echo "nginx-workers: $*" >&2
  exit 1
}

# await FAILURE FORMER: whether the master lives is not asked: until it has become NGINX it is a process of another user, which
# is not visible from here.
await() {
  for _ in {1..500}; do
    ! has_new "$2" || return 0
    sleep 0.1
  done
  fail "$1 within 50 s; its log says why"
}

former=$(workers)
case $1 in
started) await "NGINX has started no worker" "" ;;
remember) echo "${former//$'\n'/ }" >"$remembered" ;;
renewed) await "NGINX has no worker with the new configuration" "$(<"$remembered")" ;;
esac
