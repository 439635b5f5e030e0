#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# puna tokenize: ids of the reference, both output forms, special tokens, standard input.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
not_brief

i=0
while json "$data/cases.json" "cases.$i.name" >"$tmp/name" 2>/dev/null; do
    prompt=$(json "$data/cases.json" "cases.$i.prompt" && echo .)
    prompt=${prompt%??}
    want=$(json "$data/cases.json" "cases.$i.ids")
    ok tokenize -m "$model" -p "$prompt"
    same "$(cat "$tmp/name"), lines" "$(cut -f1 "$tmp/out" | tr '\n' ' ')" "$want "
    ok tokenize -m "$model" --json -p "$prompt"
    same "$(cat "$tmp/name"), json" "$(json "$tmp/out" ids)" "$want"
    printf '%s' "$prompt" >"$tmp/prompt"
    ok tokenize -m "$model" --json --prompt-file "$tmp/prompt"
    same "$(cat "$tmp/name"), file" "$(json "$tmp/out" ids)" "$want"
    i=$((i + 1))
done
[ "$i" -eq 13 ] || fail "$i cases instead of 13"

ok tokenize -m "$model" -p 'a"b'
same 'quoting' "$(tr '\n' '/' <"$tmp/out")" '97	"a"/34	"\""/98	"b"/'
ok tokenize -m "$model" -p 'é'
same 'bytes that are no character' "$(tr '\n' '/' <"$tmp/out")" '195	"\xc3"/169	"\xa9"/'
ok tokenize -m "$model" --json -p 'é'
same 'the same as JSON' "$(json "$tmp/out" pieces.1)" "$(printf '\357\277\275')"

ok tokenize -m "$model" -p '<|eot_id|>'
same 'special' "$(cat "$tmp/out")" '521	"<|eot_id|>"'
ok tokenize -m "$model" --no-special -p '<|eot_id|>'
[ "$(wc -l <"$tmp/out")" -gt 3 ] || fail "--no-special still parsed: $(cat "$tmp/out")"
grep -q '^521' "$tmp/out" && fail '--no-special gave the special id'

ok tokenize -m "$model" --json -p 'one two'
want=$(cat "$tmp/out")
printf 'one two' | "$puna" tokenize -m "$model" --json >"$tmp/out" || fail 'standard input'
same 'standard input' "$(cat "$tmp/out")" "$want"
"$puna" tokenize -m "$model" --json </dev/null >"$tmp/out" || fail 'empty input'
same 'empty input' "$(cat "$tmp/out")" '{"ids": [], "pieces": []}'
finish
