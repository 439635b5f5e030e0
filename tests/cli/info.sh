#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# puna info, doctor, bench, synth: every answer as text and as JSON.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
not_brief

field() # PATH VALUE
{
    same "$1" "$(json "$tmp/out" "$1")" "$2"
}
ok info "$model" --json --tensors --ctx 512
field format safetensors
field has_vision true
field is_chat true
field text.layers 6
field text.cross_layers 2
field text.vocabulary 528
field vision.tile 56
field vision.features 480
field generation.eos '513 520 521'
field generation.image_token 528
field memory.ctx 512
field types.BF16.tensors "$(json "$tmp/out" tensors)"
bytes=$(json "$tmp/out" memory.kv_bytes)
i=0
while json "$tmp/out" "tensor_list.$i.name" >>"$tmp/names" 2>/dev/null; do i=$((i + 1)); done
same 'tensors listed' "$i" "$(json "$tmp/out" tensors)"
ok info -m "$model" --json --ctx 1024
same 'twice the context' "$(json "$tmp/out" memory.kv_bytes)" $((2 * bytes))
ok info "$model" --json --ctx 1024 --kv-type f32
same 'f32 keys' "$(json "$tmp/out" memory.kv_bytes)" $((4 * bytes))
ok info "$model" --tensors
for word in '^Format  *safetensors' 'layers 6 (2 cross' 'end tokens 513, 520, 521' 'BF16 ' 'context 1024' \
    'vision_model.* BF16 '; do
    grep -q "$word" "$tmp/out" || fail "info does not say '$word'"
done
ok info "$src/tests/data/tiny-llama/model" --json
field has_vision false
json "$tmp/out" vision >/dev/null 2>&1 && fail 'a text model with vision'

# what fits: sizes as quantize has them, for a file and for a shape
ok info "$model" --fit -t 1 --ctx 512 --json
field ctx 512
field kv_bytes "$bytes"
i=0
while type=$(json "$tmp/out" "types.$i.type" 2>/dev/null); do
    size=$(json "$tmp/out" "types.$i.file_bytes")
    "$puna" quantize --dry-run "$model" --type "$type" >"$tmp/dry" || fail "quantize --dry-run --type $type"
    same "size of $type" "$size" "$(sed -n 's/.*(\([0-9]*\) bytes;.*/\1/p' "$tmp/dry")"
    i=$((i + 1))
done
[ "$i" -ge 16 ] || fail "$i types instead of 17"
ok info --fit 11b -t 1
for word in '^11b on this machine' '^Context 4096: 536.9 MB' '^Q4_K_M   *7.9[0-9]* GB' 'a picture'; do
    grep -q "$word" "$tmp/out" || fail "info --fit does not say '$word'"
done
wrong 2 'exclude each other' info --fit --tensors 11b
wrong 1 '12b' info --fit 12b

ok doctor --quick
grep -q '^Kernel tiers' "$tmp/out" || fail 'doctor shows no tiers'
grep -qE '^  mm_q4_k  +[a-z0-9]+  +[0-9]+ x [0-9]+, quant_act$' "$tmp/out" || fail 'doctor shows no tile, or no packer'
grep -q ', chosen$' "$tmp/out" || fail 'doctor chooses none'
grep -q 'Measured' "$tmp/out" && fail '--quick measured'
ok doctor --quick --json
tier=$(json "$tmp/out" tier)
json "$tmp/out" kernels.rmsnorm >/dev/null || fail 'no kernel for rmsnorm'
ok doctor --quick --json --cpu scalar
field kernels.rmsnorm scalar
field products.mm_q4_k.tile '1 1'
field products.mm_q4_k.packer quant_act
field products.mm_f32_q4_k.packer null
json "$tmp/out" products.rmsnorm >/dev/null 2>&1 && fail 'a tile of rmsnorm'
field tier scalar
ok doctor --quick --json --cpu openblas
field kernels.mm_f32_q4_k openblas
json "$tmp/out" products.mm_f32_q4_k >/dev/null 2>&1 && fail "a tile of OpenBLAS's product"
ok doctor --json -t 1
[ "$(json "$tmp/out" measured.read_gbs | cut -d. -f1)" -ge 0 ] || fail 'no bandwidth measured'
field measured.threads 1
ok info "$model" --json
field tier "$tier"

# the affinity mask counts, not the machine
if mask=$(taskset -cp $$ 2>/dev/null); then
    mask=${mask##*: }
    taskset -cp "${mask%%[,-]*}" $$ >/dev/null
    ok doctor --quick --json
    field cpus_usable 1
    field recommended.threads 1
    taskset -cp "$mask" $$ >/dev/null
fi

ok bench -m "$model" --prompt 20 --gen 4 --runs 2 --image 100x100 --json
for path in prefill.tokens_per_second prefill.runs.1 decode.tokens_per_second decode.ceiling decode.ceiling_runs.1 picture.seconds \
    picture.part first_token.seconds load_seconds peak_bytes ceilings.read_gbs; do
    value=$(json "$tmp/out" "$path") || fail "bench has no $path"
    case $value in -* | 0 | 0.0) [ "$path" = picture.part ] || fail "bench: $path is $value" ;; esac
done
json "$tmp/out" prefill.runs.2 >/dev/null 2>&1 && fail 'more than two runs'
ok bench -m "$model" --prompt 20 --gen 4 --runs 1 --image 0x0
grep -q picture "$tmp/out" && fail '--image 0x0 measured a picture'
grep -q 'decode, 4 tokens' "$tmp/out" || fail 'bench does not tell about decoding'
ok bench -m "$model" --depth 100 --prompt 20 --gen 4 --runs 1 --image 0x0
grep -q 'prefill, 20 tokens at 100' "$tmp/out" || fail 'bench does not tell about the depth'

# the sizes that the real models have, within a few percent
size() # ARCH TYPE MEGABYTES
{
    ok synth --arch "$1" --type "$2" --dry-run "$tmp/x.gguf"
    mb=$(sed 's/.*(\([0-9]*\)[0-9]\{6\} bytes).*/\1/' "$tmp/out")
    [ "$mb" -gt $(($3 * 95 / 100)) ] && [ "$mb" -lt $(($3 * 105 / 100)) ] || fail "$1 $2: $mb MB instead of $3"
}
size 11b Q4_K_M 7800
size 8b Q4_K_M 4920
[ ! -e "$tmp/x.gguf" ] || fail '--dry-run wrote a file'
ok synth --arch 1b --type Q4_0 --layers 1 --seed 3 "$tmp/x.gguf"
same 'size as planned' "$(stat -c %s "$tmp/x.gguf")" "$(sed 's/.*(\([0-9]*\) bytes).*/\1/' "$tmp/out")"
ok info "$tmp/x.gguf" --json
field text.layers 1
field format 'gguf (text)'
same 'files left' "$(find "$tmp" -name 'x.gguf*' | wc -l)" 1
ok run -m "$tmp/x.gguf" -p Hello --temp 0 -n 2 --json
field tokens.generated 2
# transformers writes this number when a tokenizer has no limit
cp -r "$src/tests/data/tiny-b/model" "$tmp/unlimited"
chmod -R u+w "$tmp/unlimited"
sed -i 's/"model_max_length": [0-9]*/"model_max_length": 1000000000000000019884624838656/' \
    "$tmp/unlimited/tokenizer_config.json"
grep -q 1000000000000000019884624838656 "$tmp/unlimited/tokenizer_config.json" || fail 'nothing was changed'
ok info "$tmp/unlimited"
sed '1s/{/{"nothing": 1000000000000000019884624838656,/' "$src/tests/data/tiny-b/model/config.json" \
    >"$tmp/unlimited/config.json"
ok info "$tmp/unlimited"
finish
