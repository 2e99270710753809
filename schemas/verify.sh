#!/usr/bin/env bash
# verify.sh LEDGER.ndjson [POSITION:HASH]: checks every link with only jq and sha256sum, and that the ledger has that head.
set -euo pipefail
at=0 hash=$(printf '0%.0s' {1..64}) company=
while { IFS= read -r line || [[ $line ]]; } && { read -r position previous whose <&3 || position=none; }; do
  : "${company:=$whose}" $((at += 1))
  [[ "$position $previous $whose" == "$at $hash $company" ]] || { echo "broken at position $at" >&2; exit 1; }
  hash=$(printf %s "$line" | sha256sum | cut -c1-64)
done <"$1" 3< <(jq -rR '(try (select(index("\u0000") | not) | fromjson | "\(.position) \(.previous) \(.company)") catch "not JSON") // "nothing"' "$1")
[[ -z ${2-} || $2 == "$at:$hash" ]] || { echo "broken: ends at $at:$hash, not at $2" >&2; exit 1; }
echo "$at:$hash"
