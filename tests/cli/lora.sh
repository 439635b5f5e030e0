#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# --lora: peft's numbers in every form of the file, the same bits for any threads and chunks, and what is refused.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
exact_tier
lora=$src/tests/data/lora
OLLAMA_MODELS=$src/tests/data/ollama/models
export OLLAMA_MODELS
hub=$src/tests/data/tiny-b/model
out=$tmp/out.safetensors
text=$(json "$lora/cases.json" ids.text | tr ' ' ,)
picture=$(json "$lora/cases.json" ids.picture | tr ' ' ,)
wide=$src/tests/data/tiny-b/images/wide.png

# numbers: tests/oracle/compare_lora.py --write
near() # WHAT GOLDEN
{
    tool stcat diff 2e-3 "$out" logits "$lora/golden.safetensors" "$2/logits" >"$tmp/diff" 2>&1 ||
        fail "$1: $(cat "$tmp/diff")"
}
for m in "$hub" tiny-b:f16 registry.ollama.ai/library/tiny-b-split:latest; do
    ok logits -m "$m" --lora "$lora/text" --ids "$text" --precise -o "$out"
    near "$m, text" text/text
    ok logits -m "$m" --lora "$lora/text" --ids "$picture" -i "$wide" --precise -o "$out"
    near "$m, picture" text/picture
    ok logits -m "$m" --lora "$lora/pictures:0.5" --lora "$lora/text:1" --ids "$picture" -i "$wide" --precise -o "$out"
    near "$m, two adapters" both/picture
done
tool stcat diff 0.02 "$out" logits "$lora/golden.safetensors" text/picture/logits >/dev/null 2>&1 &&
    fail 'the second adapter changes nothing'

# bits
for mode in '' --precise; do
    for m in "$hub" tiny-b:q4_k_m; do
        set -- -m "$m" --lora "$lora/text" --lora "$lora/pictures" --ids "$picture" -i "$wide"
        # shellcheck disable=SC2086
        ok logits "$@" $mode -o "$out"
        for way in '-t 2' '-t 3 --chunk 1' '--chunk 2'; do
            # shellcheck disable=SC2086
            ok logits "$@" $mode $way -o "$tmp/way.safetensors"
            cmp -s "$out" "$tmp/way.safetensors" || fail "$m $mode $way changes the logits"
        done
    done
done
ok logits -m "$hub" --ids "$text" -o "$out"
ok logits -m "$hub" --lora "$lora/text:0" --ids "$text" -o "$tmp/way.safetensors"
cmp -s "$out" "$tmp/way.safetensors" || fail 'an adapter of scale 0 changes the logits'

# every command takes it
ok info "$hub" --lora "$lora/text:-0.25"
grep -q "^Note .*lora/text: 8 layers, scale -0.25" "$tmp/out" || fail 'info does not name the adapter'
ok run -m "$hub" --lora "$lora/text" -p Hello --temp 0 -n 2 --json
ok encode -m "$hub" --lora "$lora/pictures" -i "$wide" -o "$tmp/enc.safetensors"
ok tokenize -m "$hub" --lora "$lora/text" -p Hello
cp -r "$lora/text" "$tmp/odd:2"
ok info "$hub" --lora "$tmp/odd:2"
grep -q 'odd:2: 8 layers, scale 1' "$tmp/out" || fail 'a directory with a colon in its name'

# merged by quantize: as applied, to rounding; from a hub directory and from a GGUF file
for m in "$hub" tiny-b:f16; do
    ok quantize "$m" "$tmp/merged.gguf" --force --type F32 --lora "$lora/pictures:0.5" --lora "$lora/text"
    ok logits -m "$tmp/merged.gguf" --ids "$picture" -i "$wide" --precise -o "$out"
    near "$m, merged" both/picture
done
ok quantize "$hub" "$tmp/plain.gguf" --type F32
ok logits -m "$tmp/plain.gguf" --ids "$picture" -i "$wide" --precise -o "$out"
tool stcat diff 0.02 "$out" logits "$lora/golden.safetensors" both/picture/logits >/dev/null 2>&1 &&
    fail 'merging changes nothing'

# another model, and what is not there
wrong 1 "base_model.model.language_model.model.layers.0.self_attn.k_proj.lora_A.weight.* shape \[4, 64\]" \
    info "$model" --lora "$lora/text"
wrong 1 "multi_modal_projector.lora_A.weight' adapts a layer that .* does not have" \
    info "$src/tests/data/tiny-llama/model" --lora "$lora/pictures"
wrong 1 "$tmp/no/adapter_config.json: no such file; an adapter is the directory" info "$hub" --lora "$tmp/no"
wrong 1 'not a directory' info "$hub" --lora "$lora/text/adapter_config.json"
wrong 2 'scale from -1e6' info "$hub" --lora "$tmp/no:1e99"
wrong 2 'takes DIR or DIR:SCALE' info "$hub" --lora :2
mkdir "$tmp/bare"
cp "$lora/text/adapter_config.json" "$tmp/bare"
wrong 1 'adapter_model.safetensors: no such file; save the adapter as safetensors' info "$hub" --lora "$tmp/bare"

changed() # SED PATTERN: with another config
{
    rm -rf "$tmp/changed"
    cp -r "$lora/text" "$tmp/changed"
    chmod -R u+w "$tmp/changed"
    sed -i "$1" "$tmp/changed/adapter_config.json"
    cmp -s "$tmp/changed/adapter_config.json" "$lora/text/adapter_config.json" && fail "$1 changes nothing"
    wrong 1 "$2" info "$hub" --lora "$tmp/changed"
}
changed 's/"use_dora": false/"use_dora": true/' "'use_dora' is set: DoRA is not supported"
changed 's/"bias": "none"/"bias": "lora_only"/' "'bias' is 'lora_only'"
changed 's/"modules_to_save": null/"modules_to_save": ["lm_head"]/' "'modules_to_save' is set"
changed 's/"init_lora_weights": true/"init_lora_weights": "pissa"/' 'changes the base weights'
changed 's/"peft_type": "LORA"/"peft_type": "IA3"/' "'peft_type' is 'IA3'"
changed 's/"r": 4/"r": 8/' 'gives it rank 8'
changed 's/"r": 4/"r": 0/' "'r' is 0"
changed 's/"cross_attn.k_proj": 2/"cross_attn.k_proj": 3/' 'cross_attn.k_proj.lora_A.weight.* rank 3'
changed 's/"cross_attn.k_proj": 2/"(": 3/' 'not a regular expression'
changed 's/"cross_attn.k_proj": 2/"(.|l)*(.|l)*(.|l)*(.|l)*(.|l)*pe": 3/' 'reasonable time'
changed 's/"cross_attn.k_proj": 2/".*": "two"/' 'must give a number'
changed 's/{/[/' 'broken JSON'
finish
