#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# puna verify: passes on the reference, and notices each kind of difference.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1

passes() # CASES ARGS
{
    cases=$1
    shift
    ok verify "$@" || return
    grep -q "^$cases cases, 0 failed" "$tmp/out" || fail "verify $*: $(tail -n 2 "$tmp/out")"
    grep -q '^max |Δlogit| = [0-9]' "$tmp/out" || fail "verify $*: no summary"
    same "verify $*: lines" "$(grep -c ' ok$' "$tmp/out")" "$cases"
}
passes 13 "$data"
worst=$(sed -n 's/^max .* = //p' "$tmp/out")
passes 13 "$data" --fast
[ "$worst" != "$(sed -n 's/^max .* = //p' "$tmp/out")" ] || fail '--fast computes the same as --precise'
if [ -n "${PUNA_TEST_BRIEF:-}" ]; then # an emulator takes minutes for each of the runs below
    echo 'brief: the reference, precise and fast; other forms, and what verify notices, are left out'
    finish
fi
passes 13 "$data" --hf-rows
[ "$(grep -c 'hf rows' "$tmp/out")" -eq 13 ] || fail '--hf-rows compared nothing'
passes 13 "$data" --fast --kv-type q8_0 --full-tiles
passes 10 "$src/tests/data/tiny-b"
passes 3 "$src/tests/data/tiny-llama"
passes 13 "$data" -m "$src/tests/data/ollama/tiny-a-combined-f16.gguf"
passes 10 "$src/tests/data/tiny-b" -m "$src/tests/data/ollama/tiny-b-text.gguf" \
    --projector "$src/tests/data/ollama/tiny-b-projector.gguf"

notices() # PATTERN ARGS: exit 1, the pattern in the answer, one sentence on stderr
{
    pattern=$1
    shift
    call verify "$@"
    [ "$rc" -eq 1 ] || fail "verify $*: exit $rc"
    grep -q -e "$pattern" "$tmp/out" || fail "verify $*: no '$pattern' in: $(cat "$tmp/out")"
    grep -q 'beyond tolerance' "$tmp/err" || fail "verify $*: $(cat "$tmp/err")"
}
notices '13 cases, 13 failed' "$data" --tolerance 0

# a copy with something changed
copy=$tmp/copy
fresh()
{
    rm -rf "$copy"
    cp -r "$data" "$copy"
    chmod -R u+w "$copy"
}
edit() # SED-COMMAND: of cases.json
{
    fresh
    sed -i "$1" "$copy/cases.json"
    cmp -s "$copy/cases.json" "$data/cases.json" && fail "sed '$1' changed nothing"
}
edit 's/haiku/haikus/'
notices 'base-one .*ids DIFFER.*FAILED' "$copy"
edit '/"name": "chat-tall"/,/"min_gap"/s/^    3$/    4/'
notices 'chat-tall .*tiles DIFFER.*FAILED' "$copy"
edit '/"name": "text"/,/"min_gap"/s/^    328,$/    329,/'
notices 'text .*greedy 4/16  FAILED' "$copy"
edit '/"name": "gray"/,$s/"gray"$/"one"/'
notices 'gray .*pixels [0-9].*FAILED' "$copy"
fresh
cp "$images/wide.png" "$copy/images/one.png"
notices 'base-one .*tiles DIFFER.*FAILED' "$copy"

# one value of the reference changed: a logit of the first case, a feature of the second
head=$(od -An -N8 -tu8 "$golden" | tr -d ' ')
poke() # OFFSET
{
    fresh
    printf '\000\000\200\100' | dd of="$copy/golden.safetensors" bs=1 seek=$((head + 8 + $1)) conv=notrunc 2>/dev/null
}
poke 61244
notices 'text .*FAILED' "$copy"
poke 273024
notices 'base-one .*features [0-9.]*e[+-]0[0-3] .*FAILED' "$copy"
poke 122496
notices 'base-one .*pixels [0-9].*FAILED' "$copy"

# broken folders are errors of their own
fresh
truncate -s 1000000 "$copy/golden.safetensors"
wrong 1 'golden.safetensors.*outside the file' verify "$copy"
fresh
echo '{' >"$copy/cases.json"
wrong 1 'cases.json' verify "$copy"
echo '{}' >"$copy/cases.json"
wrong 1 'no list' verify "$copy"
rm "$copy/cases.json"
wrong 1 'cases.json' verify "$copy"
wrong 1 "$tmp/none" verify "$tmp/none"
fresh
rm "$copy/images/big.png"
call verify "$copy"
[ "$rc" -eq 1 ] || fail "a missing picture: exit $rc"
grep -q "case big: .*no picture 'big'" "$tmp/err" || fail "a missing picture: $(cat "$tmp/err")"
call verify "$data" -m "$src/tests/data/tiny-b/model"
[ "$rc" -eq 1 ] || fail "another model: exit $rc"
finish
