#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# puna logits: the file's form, the reference's numbers, and that threads, chunks, tiles do not matter.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
exact_tier
out=$tmp/out.safetensors

cd "$tmp" || exit 1
i=0
while json "$data/cases.json" "cases.$i.name" >"$tmp/name" 2>/dev/null; do
    name=$(cat "$tmp/name")
    ids=$(json "$data/cases.json" "cases.$i.ids")
    list=$(echo "$ids" | tr ' ' ',')
    set --
    for k in 0 1 2; do
        image=$(json "$data/cases.json" "cases.$i.images.$k" 2>/dev/null) || break
        set -- "$@" -i "$images/$image.png"
    done
    ok logits -m "$model" --ids "$list" "$@" --precise -o "$out"
    same "$name: ids" "$(tool stcat ints "$out" ids)" "$ids"
    tool stcat diff 2e-3 "$out" logits "$golden" "$name/logits" >"$tmp/diff" 2>&1 ||
        fail "$name: logits: $(cat "$tmp/diff")"
    prompt=$(json "$data/cases.json" "cases.$i.prompt" && echo .)
    ok logits -m "$model" --raw -p "${prompt%??}" "$@" --precise -o "$tmp/raw.safetensors"
    same "$name: raw ids" "$(tool stcat ints "$tmp/raw.safetensors" ids)" "$ids"
    cmp -s "$out" "$tmp/raw.safetensors" || fail "$name: --raw and --ids differ"
    i=$((i + 1))
    [ -z "${PUNA_TEST_BRIEF:-}" ] || [ "$i" -lt 4 ] || break
done
[ "$i" -eq "$([ -z "${PUNA_TEST_BRIEF:-}" ] && echo 13 || echo 4)" ] || fail "$i cases"
same 'what the file holds' "$(tool stcat list "$out" | tr '\n' ' ')" "logits F32 [$(echo "$ids" | wc -w),528] ids I64 [$(echo "$ids" | wc -w)] "

if [ -n "${PUNA_TEST_BRIEF:-}" ]; then # test_session has threads and chunks, too
    echo 'brief: four cases; other ways of computing them are left out'
    finish
fi
# the last case in other ways
ok logits -m "$model" --ids "$list" "$@" --precise --hf-rows -o "$out"
tool stcat diff 2e-3 "$out" logits "$golden" "$name/logits_hf_rows" >"$tmp/diff" 2>&1 ||
    fail "hf rows: $(cat "$tmp/diff")"
cmp -s "$out" "$tmp/raw.safetensors" && fail '--hf-rows changed nothing'
for mode in '' --precise; do
    # shellcheck disable=SC2086
    ok logits -m "$model" --ids "$list" "$@" $mode -o "$out"
    for way in '-t 2' '--chunk 1' '--chunk 7'; do
        # shellcheck disable=SC2086
        ok logits -m "$model" --ids "$list" "$@" $mode $way -o "$tmp/way.safetensors"
        cmp -s "$out" "$tmp/way.safetensors" || fail "$mode $way changes the logits"
    done
    # shellcheck disable=SC2086
    ok logits -m "$model" --ids "$list" "$@" $mode --full-tiles -o "$tmp/way.safetensors"
    tool stcat diff 5e-2 "$out" logits "$tmp/way.safetensors" logits >"$tmp/diff" 2>&1 ||
        fail "$mode --full-tiles: $(cat "$tmp/diff")"
done
for kv in f32 bf16 q8_0; do
    ok logits -m "$model" --ids "$list" "$@" --kv-type $kv -o "$tmp/kv.safetensors"
    tool stcat diff 0.5 "$out" logits "$tmp/kv.safetensors" logits >"$tmp/diff" 2>&1 ||
        fail "--kv-type $kv: $(cat "$tmp/diff")"
done

# the chat template; marks in the text place pictures
chat() # CASE ARGS: same ids as the case
{
    want=$(json "$data/cases.json" "cases.$1.ids")
    shift
    ok logits -m "$model" "$@" -o "$out"
    same "puna logits $*" "$(tool stcat ints "$out" ids)" "$want"
}
chat 2 -i "$images/square.png" -p 'What does the image show?'
chat 3 -i "$images/wide.png" -p 'Before the picture. <|image|>Describe it.'
chat 7 -i "$images/wide.png" -i "$images/one.png" -p '<|image|>First one.<|image|>And the second: compare.'
printf 'Count.' >"$tmp/question"
chat 4 -i "$images/tall.png" --prompt-file "$tmp/question"
ok logits -m "$model" -i "$images/wide.png" -i "$images/one.png" -p '<|image|>x<|image|>' -o "$out"
ok logits -m "$model" -i "$images/one.png" -i "$images/wide.png" -p '<|image|>x<|image|>' -o "$tmp/swap.safetensors"
cmp -s "$out" "$tmp/swap.safetensors" && fail 'the order of pictures does not matter'

# control tokens in a chat message are text; in --raw they are not, and BOS comes once
ok logits -m "$model" -p '<|eot_id|>' -o "$out"
ids=" $(tool stcat ints "$out" ids) "
rest=${ids#* 521 }
[ "$rest" != "$ids" ] || fail 'the template ends no turn'
ok logits -m "$model" --raw -p 'x<|eot_id|>' -o "$out"
same 'raw' "$(tool stcat ints "$out" ids)" '512 120 521'
ok logits -m "$model" --raw -p '<|begin_of_text|>x' -o "$out"
same 'raw, own BOS' "$(tool stcat ints "$out" ids)" '512 120'
ok logits -m "$model" --raw -p 'x' -i "$images/one.png" -o "$out"
same 'raw, picture first' "$(tool stcat ints "$out" ids)" '512 528 120'
ok logits -m "$model" --ids 120 -o "$out"
same 'ids are taken as they are' "$(tool stcat ints "$out" ids)" '120'

# an old file is replaced, its permissions kept; links are followed; nothing else is left
echo old >"$tmp/target"
chmod 640 "$tmp/target"
ln -s target "$tmp/link"
ok logits -m "$model" --ids 120 -o "$tmp/link"
cmp -s "$tmp/target" "$out" || fail 'the file behind the link was not replaced'
[ -L "$tmp/link" ] || fail 'the link was replaced'
same 'permissions' "$(stat -c %a "$tmp/target")" 640
ok logits -m "$model" --ids 120 -o /dev/null
[ -c /dev/null ] || fail '/dev/null was replaced'
[ -z "$(find "$tmp" -name '*.??????' ! -name '*.safetensors' -type f)" ] || fail 'temporary files are left'
finish
