#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Bash completion: commands, options, values and files, as a shell would ask for them.
set -u
src=${PUNA_SRCDIR:-.} puna=${PUNA:-puna}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
# shellcheck source=completion/puna
source "$src/completion/puna" || exit 1
bad=0 seen=0

# expect ANSWERS WORD...: the last word is being completed; answers are compared sorted
expect() {
    local want have
    want=$(tr ' ' '\n' <<<"$1" | sort | tr '\n' ' ')
    shift
    COMP_WORDS=("$puna" "$@")
    COMP_CWORD=$#
    _puna
    have=$(printf '%s\n' "${COMPREPLY[@]}" | sort | tr '\n' ' ')
    seen=$((seen + 1))
    if [ "$have" != "$want" ]; then
        echo "puna $*: got '$have', want '$want'"
        bad=$((bad + 1))
    fi
}

expect 'run' ru
expect 'tokenize' t
expect 'doctor' help doc
expect '--version' --v
expect '--top-k --top-p' run --to
expect '--tensors' info --ten
expect '--kv-type' logits --kv
expect 'f16 f32' run --kv-type f
expect 'bf16' run --kv-type = b
expect '11b 11b-base' synth --arch 11
expect '90b' info --fit 90
expect 'Q5_K_M Q5_K_S' quantize --type Q5_K
expect 'Q8_0' quantize --vision Q
touch "$tmp/a.jpg" "$tmp/a.png"
expect "$tmp/a.jpg $tmp/a.png" run -i "$tmp/a."
library=$tmp/models/manifests/registry.ollama.ai/library
mkdir -p "$library/llama3.2-vision"
touch "$library/llama3.2-vision/latest" "$library/llama3.2-vision/90b"
OLLAMA_MODELS=$tmp/models
expect 'llama3.2-vision llama3.2-vision:90b' run -m llama3
COMP_WORDS=("$puna" run --cpu s)
COMP_CWORD=3
_puna
[ "${COMPREPLY[*]}" = scalar ] || { echo "--cpu s: got '${COMPREPLY[*]}'"; bad=$((bad + 1)); }
echo "$seen completions, $bad wrong"
[ "$bad" -eq 0 ]
