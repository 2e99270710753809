# Runs one process for as long as standard input is open, so that it ends with the tests, however they end. Its id is the
# first line of output.
log=$1
shift
trap '' INT
"$@" >>"$log" 2>&1 </dev/null &
process=$!
echo "$process"
cat >/dev/null
kill -KILL "$process" 2>/dev/null
wait "$process" 2>/dev/null
