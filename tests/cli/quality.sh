#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# puna perplexity and imatrix: transformers' numbers (tests/oracle/compare_quality.py), files, mistakes.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
not_brief
exact_tier

# near WHAT A B TOLERANCE
near()
{
    awk -v a="$2" -v b="$3" -v t="$4" 'BEGIN { d = a - b; exit !(d <= t && -d <= t) }' || fail "$1: $2 instead of $3"
}
number() # KEY: of the JSON that the last call printed
{
    json "$tmp/out" "$1"
}

# a text that stays as it is, and conversations; pictures are seen from the data set's folder
i=0
while [ $i -lt 40 ]; do
    echo "Line $i of a text that a model of random numbers cannot predict: $((i * i + 7)), $((i * 31 % 17))."
    i=$((i + 1))
done >"$tmp/text"
mkdir "$tmp/set"
cp "$images/wide.png" "$images/square.png" "$images/tall.png" "$tmp/set"
talk=$tmp/set/talk.jsonl
cat >"$talk" <<'END'
{"image": "wide.png", "prompt": "What is it?", "answer": "A wide one."}
{"question": "Only text?", "answer": "Yes, only text this time."}

{"images": ["square.png", "tall.png"], "prompt": "Compare the two, please.", "answers": ["One is tall.", "no"]}
END

# perplexity
ok perplexity -m "$model" "$tmp/text" --ctx 64 --precise --save-base "$tmp/base" --json
same windows "$(number windows)" 30
same tokens "$(number tokens)" 930
near perplexity "$(number perplexity.value)" 1216.826 0.5
near 'its error' "$(number perplexity.error)" 53.067 0.05
ok perplexity -m "$model" "$tmp/text" --ctx 64 --pieces 4 --precise --kl-base "$tmp/base" --json
near 'the same model' "$(number kl.max)" 0 1e-5
same 'the same model' "$(number same_top.value)" 1.0
ok perplexity -m "$model" "$tmp/text" --ctx 64 --pieces 4 --kv-type q8_0 --kl-base "$tmp/base"
grep -q '^KL divergence, 99.9 %: 0\.0' "$tmp/out" || fail "no percentiles: $(cat "$tmp/out")"
grep -q '^RMS of delta p: ' "$tmp/out" || fail 'no delta p'
ok perplexity -m "$model" "$talk" --precise --save-base "$tmp/talk.base" --json
same conversations "$(number conversations)" 3
same tokens "$(number tokens)" 31
near perplexity "$(number perplexity.value)" 1296.609 0.5
ok perplexity -m "$model" "$talk" --precise --kl-base "$tmp/talk.base" --json
near 'the same model' "$(number kl.max)" 0 1e-5

wrong 1 'other tokens or pictures' perplexity -m "$model" "$tmp/text" --ctx 32 --kl-base "$tmp/base"
wrong 1 'other tokens or pictures' perplexity -m "$model" "$talk" --kl-base "$tmp/base"
cp "$images/gray.png" "$tmp/set/wide.png"
wrong 1 'other tokens or pictures (piece 1)' perplexity -m "$model" "$talk" --kl-base "$tmp/talk.base"
cp "$images/wide.png" "$tmp/set/wide.png"
wrong 1 'no base file' perplexity -m "$model" "$talk" --kl-base "$talk"
head -c 5000 "$tmp/base" >"$tmp/short"
wrong 1 'shorter than it says' perplexity -m "$model" "$tmp/text" --ctx 64 --kl-base "$tmp/short"
echo short >"$tmp/short.txt"
wrong 1 'smaller --ctx' perplexity -m "$model" "$tmp/short.txt"
echo '{"prompt": "x"}' >"$tmp/none.jsonl"
wrong 1 'no "answer"' perplexity -m "$model" "$tmp/none.jsonl"
echo '[1]' >"$tmp/none.jsonl"
wrong 1 'none.jsonl:1: the line is not a JSON object' perplexity -m "$model" "$tmp/none.jsonl"
printf '{"prompt": "x", "answer": "y"}\n{"prompt": \n' >"$tmp/none.jsonl"
wrong 1 'none.jsonl:2: no JSON' perplexity -m "$model" "$tmp/none.jsonl"
echo '{"prompt": "x", "answer": "y", "image": "nowhere.png"}' >"$tmp/none.jsonl"
wrong 1 'nowhere.png' perplexity -m "$model" "$tmp/none.jsonl"

# imatrix
for way in '' '-t 2'; do
    # shellcheck disable=SC2086
    ok imatrix -m "$model" "$talk" $way -o "$tmp/imatrix$way"
done
cmp -s "$tmp/imatrix" "$tmp/imatrix-t 2" || fail 'the threads change the sums'
wrong 1 'is there already' imatrix -m "$model" "$talk" -o "$tmp/imatrix"
ok imatrix -m "$model" "$talk" --pieces 2 -o "$tmp/part"
ok imatrix -m "$model" "$talk" --continue -o "$tmp/part"
ok imatrix -m "$model" "$tmp/text" --ctx 64 --pieces 2 --continue -o "$tmp/part"
ok imatrix -m "$model" "$tmp/text" --ctx 64 --pieces 1 -o "$tmp/text.imatrix"
for f in part text.imatrix; do
    tr -c '[:print:]' '\n' <"$tmp/$f" | grep -q 'blk.0.attn_q.weight.in_sum2' || fail "$f: no blk.0.attn_q.weight"
done
tr -c '[:print:]' '\n' <"$tmp/part" | grep -q 'v.global.blk.0.ffn_down.weight.counts' || fail 'no vision tower'
tr -c '[:print:]' '\n' <"$tmp/text.imatrix" | grep -q 'v\.blk\|cross_attn' && fail 'a picture in a text'
wrong 1 'no importance statistics' imatrix -m "$model" "$talk" --continue \
    -o "$src/tests/data/ollama/tiny-b-projector.gguf"
head -c 3000 "$tmp/part" >"$tmp/short"
wrong 1 'short' imatrix -m "$model" "$talk" --continue -o "$tmp/short"
wrong 1 "another model's" imatrix -m "$src/tests/data/tiny-llama/model" "$tmp/text" --ctx 64 --continue -o "$tmp/part"
finish
