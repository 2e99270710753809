# Runs a Postgres cluster for as long as standard input is open, so that it ends with the tests, however they end.
# Each line of input is a crash: the server stops at once, as it would at a power cut, and starts again. It is answered
# with a line when the server is gone.
bin=$1 dir=$2 port=$3
trap '' INT
"$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/log" 2>&1 || exit 1
run() {
    "$bin/postgres" -D "$dir/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
        -c max_connections=500 -c shared_buffers=64MB >>"$dir/log" 2>&1 </dev/null &
    server=$!
}
stop() {
    # Until it has set to work, it passes over what it is told: a shell's children in the background begin so.
    tries=0
    until [ "$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null)" = "$server" ] || [ "$tries" -ge 1000 ]; do
        sleep 0.01
        tries=$((tries + 1))
    done
    kill -QUIT "$server"
    wait "$server"
}
run
while read -r _; do
    stop
    run
    echo done
done
stop
rm -rf "$dir"
