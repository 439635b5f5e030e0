#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# puna imatrix into puna quantize --imatrix: from text and from pictures, a hub directory and a GGUF file; which tensors
# get weights, and whose statistics are refused.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
not_brief
gguf=$src/tests/data/ollama/tiny-a-combined-f16.gguf

i=0
while [ $i -lt 12 ]; do
    echo "Line $i of a text: $((i * i + 7)) and $((i * 31 % 17))."
    i=$((i + 1))
done >"$tmp/text"
cp "$images/wide.png" "$tmp"
cat >"$tmp/talk.jsonl" <<END
{"image": "wide.png", "prompt": "What is it?", "answer": "A wide one."}
{"prompt": "Only text?", "answer": "Yes."}
END
same 'case 4 of the reference' "$(json "$data/cases.json" cases.4.name)" chat-tall
ids=$(json "$data/cases.json" cases.4.ids | tr ' ' ',')
ok imatrix -m "$model" "$tmp/text" --ctx 64 --pieces 2 -o "$tmp/text.imatrix"
ok imatrix -m "$model" "$tmp/talk.jsonl" -o "$tmp/talk.imatrix"
ok imatrix -m "$gguf" "$tmp/talk.jsonl" -o "$tmp/gguf.imatrix"

# Everything that is multiplied is a matrix with weights; rows of the embedding are only looked up.
with() # IMATRIX COUNT: what quantize says, and what its list says of every matrix in blocks
{
    ok quantize "$from" "$tmp/with.gguf" --type Q4_K_M --vision Q8_0 --imatrix "$tmp/$1" --tensors --force
    grep -q "^$2 tensors by importance, $((81 - $2)) without\$" "$tmp/out" || fail "$1: $(tail -n 1 "$tmp/out")"
    sed -n 's/^  \([^ ]*\) .* -> Q[0-9]_[0K] *[0-9]* bytes\(.*\)/\1\2/p' "$tmp/out" >"$tmp/list"
    same "$1: matrices in blocks" "$(wc -l <"$tmp/list")" 81
    same "$1: of them by importance" "$(grep -c '  (by importance)$' "$tmp/list")" "$2"
    grep -v '(by importance)' "$tmp/list" >"$tmp/without"
    ok logits -m "$tmp/with.gguf" --ids "$ids" -i "$images/tall.png" --precise -o "$tmp/l.safetensors"
    tool stcat diff 4.5 "$tmp/l.safetensors" logits "$golden" chat-tall/logits >"$tmp/diff" 2>&1 ||
        fail "$1: logits: $(cat "$tmp/diff")"
}
for from in "$model" "$gguf"; do
    ok quantize "$from" "$tmp/even.gguf" --type Q4_K_M --vision Q8_0 --force
    for i in talk gguf; do
        with $i.imatrix 80
        same "$i: without weights" "$(cat "$tmp/without")" token_embd.weight
    done
    for name in blk.1.cross_attn_q_proj blk.4.cross_attn_k_proj blk.1.cross_attn_v_proj blk.4.cross_attn_o_proj \
        blk.4.ffn_down v.blk.0.attn_q v.blk.3.ffn_down v.global.blk.1.attn_output mm.0 output; do
        grep -q "^$name.weight  (by importance)" "$tmp/list" || fail "$name without weights"
    done
    cp "$tmp/with.gguf" "$tmp/talk.gguf"
    # without a picture neither the tower nor the cross-attention layers compute anything
    with text.imatrix 29
    same 'text: without weights' "$(grep -v -c '^blk\.[14]\.\|^v\.\|^mm\.' "$tmp/without")" 1
    for a in even talk; do
        cmp -s "$tmp/$a.gguf" "$tmp/with.gguf" && fail "$from: the statistics of a text make the same file as $a"
    done
    cmp -s "$tmp/even.gguf" "$tmp/talk.gguf" && fail "$from: the statistics of pictures change nothing"
done

# Another model's, and what is none
for other in tiny-b tiny-llama; do
    ok imatrix -m "$src/tests/data/$other/model" "$tmp/text" --ctx 64 --pieces 1 -o "$tmp/$other.imatrix"
    wrong 1 'it was made for another one' quantize "$model" "$tmp/x" --type Q8_0 --imatrix "$tmp/$other.imatrix"
    wrong 1 'it was made for another one' quantize "$src/tests/data/$other/model" "$tmp/x" --type Q8_0 \
        --imatrix "$tmp/talk.imatrix"
done
head -c 20000 "$tmp/talk.imatrix" >"$tmp/cut.imatrix"
wrong 1 'cut.imatrix' quantize "$model" "$tmp/x" --type Q8_0 --imatrix "$tmp/cut.imatrix"
sed 's/\.counts/.Counts/' "$tmp/talk.imatrix" >"$tmp/uncounted.imatrix"
wrong 1 'count beside it' quantize "$model" "$tmp/x" --type Q8_0 --imatrix "$tmp/uncounted.imatrix"
[ ! -e "$tmp/x" ] || fail 'a call that failed left a file'
finish
