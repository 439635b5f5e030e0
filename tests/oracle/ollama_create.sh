#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# ollama_create.sh HUB_DIR NAME STORE: makes Ollama models NAME:latest (from the files as they are), NAME:f16 (from an
# F16 copy of the weights), NAME:q8_0 and NAME:q4_k_m in STORE with the `ollama` binary $OLLAMA (v0.24.0).
set -eu
hub=$(realpath "$1") name=$2
mkdir -p "$3"
OLLAMA_MODELS=$(realpath "$3")
OLLAMA_HOST=127.0.0.1:${PORT:-11999}
OLLAMA_NOPRUNE=1
export OLLAMA_MODELS OLLAMA_HOST OLLAMA_NOPRUNE
ollama=${OLLAMA:-ollama} python=${PYTHON:-python3}
work=$(mktemp -d)
HOME=$work
export HOME
"$ollama" serve >"$work/serve.log" 2>&1 &
server=$!
trap 'kill $server; rm -rf "$work"' EXIT
n=0
until "$ollama" list >/dev/null 2>&1; do
    n=$((n + 1))
    [ $n -lt 60 ] || { cat "$work/serve.log" >&2; exit 1; }
    sleep 0.5
done
mkdir "$work/f16"
cp "$hub"/*.json "$work/f16/"
rm -f "$work"/f16/*.index.json
"$python" - "$hub" "$work/f16/model.safetensors" <<'EOF'
import glob, sys
import torch
from safetensors.torch import load_file, save_file
w = {}
for f in glob.glob(sys.argv[1] + "/*.safetensors"):
    w.update(load_file(f))
save_file({k: t.to(torch.float16) for k, t in w.items()}, sys.argv[2], metadata={"format": "pt"})
EOF
make() { # source tag [options]
    cat >"$work/Modelfile" <<EOF
FROM $1
TEMPLATE """{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>

{{ .Content }}<|eot_id|>{{ end }}<|start_header_id|>assistant<|end_header_id|>

"""
PARAMETER temperature 0.6
PARAMETER top_p 0.9
LICENSE """Random weights, made as test data."""
EOF
    tag=$2
    shift 2
    "$ollama" create "$name:$tag" "$@" -f "$work/Modelfile" 2>"$work/create.log" || { cat "$work/create.log" >&2; exit 1; }
}
make "$hub" latest
make "$work/f16" f16
make "$work/f16" q8_0 --quantize q8_0
make "$work/f16" q4_k_m --quantize q4_K_M
"$ollama" show --verbose "$name:latest" >"$OLLAMA_MODELS/show-$name.txt" 2>/dev/null || true
grep -i 'warn\|error' "$work/serve.log" | grep -v divisible || true
