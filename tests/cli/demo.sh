#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The model that comes with puna answers as it did when it was made (tools/demo-model/ship.py), found without being named.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
PUNA_DEMO_MODEL=$src/models/demo/demo.gguf
export PUNA_DEMO_MODEL
tab=$(printf '\t')
n=0
while IFS=$tab read -r pictures question answer; do
    set --
    for p in $(echo "${pictures#-}" | tr , ' '); do
        set -- "$@" -i "$src/tests/data/demo/$p"
    done
    ok run "$@" -p "$question" --temp 0 -n 64
    same "$pictures, $question" "$(cat "$tmp/out")" "$answer"
    n=$((n + 1))
    [ -z "${PUNA_TEST_BRIEF:-}" ] || [ "$n" -lt 4 ] || break
done <"$src/tests/data/demo/questions.tsv"
[ "$n" -ge 4 ] || fail "only $n questions"

# in other number formats and ways it gives the first answer too
IFS=$tab read -r pictures question answer <"$src/tests/data/demo/questions.tsv"
for way in '--precise' '--kv-type q8_0' '-t 2' '--cpu scalar'; do
    # shellcheck disable=SC2086
    ok run -i "$src/tests/data/demo/$pictures" -p "$question" --temp 0 -n 64 $way
    same "$way" "$(cat "$tmp/out")" "$answer"
done
ok quantize "$PUNA_DEMO_MODEL" "$tmp/small.gguf" --type Q4_K_M
ok run -m "$tmp/small.gguf" -i "$src/tests/data/demo/$pictures" -p "$question" --temp 0 -n 64
same 'Q4_K_M' "$(cat "$tmp/out")" "$answer"

# a chat about a picture, and text alone
ok run -p 'Hello' --temp 0 -n 32
[ -s "$tmp/out" ] || fail 'no answer without a picture'
finish
