# Runs a NATS server for as long as standard input is open, so that it ends with the tests, however they end.
# Each line of input is an order, answered with a line when it is done. A server is stopped as by kill -9, unless it is told to end.
program=$1 dir=$2
shift 2
trap '' INT
start() {
    "$program" -c "$dir/config" "$@" >>"$dir/log" 2>&1 </dev/null &
    server=$!
}
stop() {
    kill -KILL "$server" 2>/dev/null
    wait "$server" 2>/dev/null
}
end() {
    kill -TERM "$server" 2>/dev/null
    wait "$server" 2>/dev/null
}
start "$@"
while read -r order; do
    case $order in
    start) start "$@" ;;
    kill) stop ;;
    end) end ;;
    wipe) rm -rf "$dir/data" ;;
    remember) cp -r "$dir/data" "$dir/remembered" ;;
    unfollow)
        find "$dir/remembered" -type d -name msgs | while read -r old; do
            new="$dir/data${old#"$dir/remembered"}"
            rm -rf "$new" && mv "$old" "$new"
        done
        rm -rf "$dir/remembered"
        ;;
    recall) rm -rf "$dir/data" && mv "$dir/remembered" "$dir/data" ;;
    reload) kill -HUP "$server" ;;
    esac
    echo done
done
stop
rm -rf "$dir"
