#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Models made by Ollama v0.24.0 itself, found by name in its store: logits of every form and type against
# transformers (float32, from the files' dequantised values).
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
not_brief
o=$src/tests/data/ollama
OLLAMA_MODELS=$o/models
export OLLAMA_MODELS

same_as() # CASES DIR NAME: a file of the same weights gives the same numbers
{
    ok verify "$2" -m "$3" || return
    grep -q "^$1 cases, 0 failed" "$tmp/out" || fail "verify -m $3: $(tail -n 2 "$tmp/out")"
}
same_as 10 "$src/tests/data/tiny-b" tiny-b
same_as 10 "$src/tests/data/tiny-b" tiny-b:f16
same_as 10 "$src/tests/data/tiny-b" registry.ollama.ai/library/tiny-b-split:latest
same_as 3 "$src/tests/data/tiny-llama" tiny-llama

tool stcat list "$o/golden.safetensors" >"$tmp/golden"
quantised() # NAME TAG DIR: the cases of DIR/cases.json there are numbers for
{
    i=0
    compared=0
    while name=$(tool jsonget "$3/cases.json" "cases.$i.name" 2>/dev/null); do
        i=$((i + 1))
        grep -q "^$1/$2/$name/logits " "$tmp/golden" || continue
        compared=$((compared + 1))
        set -- "$1" "$2" "$3" -m "$1:$2" --ids "$(tool jsonget "$3/cases.json" "cases.$((i - 1)).ids" | tr ' ' ,)"
        k=0
        while pic=$(tool jsonget "$3/cases.json" "cases.$((i - 1)).images.$k" 2>/dev/null); do
            set -- "$@" -i "$3/images/$pic.png"
            k=$((k + 1))
        done
        n=$1 t=$2 d=$3
        shift 3
        ok logits "$@" --precise -o "$tmp/out.st" &&
            { tool stcat diff 2e-3 "$tmp/out.st" logits "$o/golden.safetensors" "$n/$t/$name/logits" >"$tmp/diff" ||
                fail "$n:$t, $name: $(cat "$tmp/diff")"; }
        # the normal path: activations in int8. Random weights: near, not equal.
        ok logits "$@" -o "$tmp/out.st" &&
            { tool stcat diff 1.0 "$tmp/out.st" logits "$o/golden.safetensors" "$n/$t/$name/logits" >"$tmp/diff" ||
                fail "$n:$t, $name, int8: $(cat "$tmp/diff")"; }
        set -- "$n" "$t" "$d"
    done
    [ "$compared" -ge 3 ] || fail "$1:$2: only $compared cases"
}
quantised tiny-b q8_0 "$src/tests/data/tiny-b"
quantised tiny-b q4_k_m "$src/tests/data/tiny-b"
quantised tiny-c q4_k_m "$o/tiny-c"
quantised tiny-llama q8_0 "$src/tests/data/tiny-llama"

# the wrong statement about the rows is noticed: the numbers differ
call verify "$src/tests/data/tiny-b" -m "$o/tiny-b-text.gguf" --projector "$o/tiny-b-projector.gguf" \
    --cross-rows plain
[ "$rc" -eq 1 ] || fail "--cross-rows plain on permuted rows: exit $rc"
finish
