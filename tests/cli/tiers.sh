#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every kernel tier this machine can run: the reference's numbers, the same bits in all of them, and in each for any
# number of threads and any chunk (openblas excepted, which picks its kernels by the number of rows; doc/NUMERICS.md).
# A tier it cannot run is an error, however it is asked for.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
OLLAMA_MODELS=$src/tests/data/ollama/models
export OLLAMA_MODELS
ok doctor --quick --json
cp "$tmp/out" "$tmp/doctor"
# products of one step that take the same rows as int8 and as bf16
ok quantize "$model" "$tmp/mixed.gguf" --type Q8_0 --vision BF16 --override 'blk.*.attn_v.weight=BF16' \
    --override 'blk.*.ffn_up.weight=F16' --override 'blk.*.cross_attn_k_proj.weight=F16' \
    --override 'blk.*.ffn_down.weight=BF16' --override 'blk.*.attn_output.weight=F16'
# a float tower of some size, which is multiplied in int8, but for one matrix in blocks
demo=$src/models/demo
ok quantize "$demo/demo.gguf" "$tmp/tower.gguf" --type Q8_0 --vision F16 --override 'v.blk.*.attn_v.weight=Q8_0'
first=
n=0
i=0
while tier=$(tool jsonget "$tmp/doctor" "tiers.$i.name" 2>/dev/null); do
    built=$(tool jsonget "$tmp/doctor" "tiers.$i.built")
    usable=$(tool jsonget "$tmp/doctor" "tiers.$i.usable")
    i=$((i + 1))
    if [ "$built" != true ] || [ "$usable" != true ]; then
        echo "not run: $tier (built: $built, usable here: $usable)"
        wrong 1 "$tier" logits -m "$model" --cpu "$tier" --ids 1 -o "$tmp/none"
        PUNA_CPU=$tier
        export PUNA_CPU
        wrong 1 "$tier" logits -m "$model" --ids 1 -o "$tmp/none"
        unset PUNA_CPU
        continue
    fi
    n=$((n + 1))
    ok verify "$src/tests/data/tiny-b" --cpu "$tier" &&
        { grep -q '^10 cases, 0 failed' "$tmp/out" || fail "$tier: $(tail -n 2 "$tmp/out")"; }
    echo "$tier: $(tail -n 1 "$tmp/out")"
    [ "$tier" != openblas ] || continue
    # f32 through a picture; int8 products of K-quants with f32 keys, which no tier rounds, and with those of the default
    ok logits -m "$model" --cpu "$tier" --precise -p 'The same bits?' -i "$images/tall.png" -o "$tmp/$tier-precise.st"
    ok logits -m tiny-c:q4_k_m --cpu "$tier" --kv-type f32 -p 'The same bits again?' -o "$tmp/$tier-f32kv.st"
    ok logits -m tiny-c:q4_k_m --cpu "$tier" -p 'The same bits again?' -o "$tmp/$tier-int8.st"
    # bf16 weights, keys and values: in tiers with bf16 dot products nobody else's bits, but always the same
    ok logits -m "$model" --cpu "$tier" --kv-type bf16 -p 'The same bits?' -i "$images/tall.png" -o "$tmp/$tier-bf16.st"
    ok logits -m "$tmp/mixed.gguf" --cpu "$tier" -p 'The same bits?' -i "$images/tall.png" -o "$tmp/$tier-mixed.st"
    ok encode -m "$tmp/tower.gguf" --cpu "$tier" -t 1 -i "$demo/example.png" -o "$tmp/tower1.st"
    ok encode -m "$tmp/tower.gguf" --cpu "$tier" -t 3 -i "$demo/example.png" -o "$tmp/tower3.st"
    cmp -s "$tmp/tower1.st" "$tmp/tower3.st" || fail "$tier: other features with three threads"
    for how in '-t 1 --chunk 1' '-t 2 --chunk 3' '-t 3 --chunk 64'; do
        # shellcheck disable=SC2086
        ok logits -m "$model" --cpu "$tier" $how --kv-type bf16 -p 'The same bits?' -i "$images/tall.png" -o "$tmp/bf16.st"
        # shellcheck disable=SC2086
        ok logits -m tiny-c:q4_k_m --cpu "$tier" $how -p 'The same bits again?' -o "$tmp/int8.st"
        # shellcheck disable=SC2086
        ok logits -m "$tmp/mixed.gguf" --cpu "$tier" $how -p 'The same bits?' -i "$images/tall.png" -o "$tmp/mixed.st"
        # shellcheck disable=SC2086
        ok logits -m "$model" --cpu "$tier" $how --precise -p 'The same bits?' -i "$images/tall.png" -o "$tmp/precise.st"
        for kind in bf16 int8 mixed precise; do
            cmp -s "$tmp/$kind.st" "$tmp/$tier-$kind.st" || fail "$tier: other bits with $how ($kind)"
        done
    done
    if [ -z "$first" ]; then
        first=$tier
        continue
    fi
    for kind in precise f32kv; do
        cmp -s "$tmp/$first-$kind.st" "$tmp/$tier-$kind.st" || fail "$tier and $first differ ($kind)"
    done
done
[ "$n" -ge 2 ] || fail "only $n tiers were run"
finish
