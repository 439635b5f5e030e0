#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# puna quantize: every type end to end, the layouts, what is refused, and that nothing half-done is left.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
not_brief
llama=$src/tests/data/tiny-llama
out=$tmp/out.gguf

# The unquantised forms say what the directory says; every case of the reference passes.
ok quantize "$model" "$out" --type F32
ok verify "$data" -m "$out"
ok quantize "$model" "$out" --type F16 --force
ok verify "$data" -m "$out"
cp "$out" "$tmp/f16.gguf"
ok quantize "$llama/model" "$tmp/llama.gguf" --type BF16
ok verify "$llama" -m "$tmp/llama.gguf"
ok info "$tmp/llama.gguf" --json
same 'format of a text model' "$(json "$tmp/out" format)" 'gguf (text)'

# Every type: what is said is what is there, it opens, and the logits of a case with pictures stay near the reference.
ids=
i=0
while json "$data/cases.json" "cases.$i.name" >"$tmp/name" 2>/dev/null; do
    if [ "$(cat "$tmp/name")" = chat-tall ]; then
        ids=$(json "$data/cases.json" "cases.$i.ids" | tr ' ' ',')
    fi
    i=$((i + 1))
done
type_ok() # TYPE BYTES MAX-DIFFERENCE TYPES-OF-MATRICES
{
    ok quantize "$model" "$out" --type "$1" --force
    same "$1: bytes" "$(stat -c %s "$out")" "$2"
    grep -q "$1, .*($2 bytes; " "$tmp/out" || fail "$1: the summary says $(cat "$tmp/out")"
    ok quantize "$model" --type "$1" --dry-run
    grep -q "$1, .*($2 bytes; " "$tmp/out" || fail "$1: --dry-run says $(cat "$tmp/out")"
    same "$1: types" "$(sed -n 's/^  text  *\([A-Z0-9_]*\) .*/\1/p' "$tmp/out" | grep -v '^F32$' | sort | tr '\n' ' ')" "$4 "
    ok logits -m "$out" --ids "$ids" -i "$images/tall.png" --precise -o "$tmp/l.safetensors"
    tool stcat diff "$3" "$tmp/l.safetensors" logits "$golden" chat-tall/logits >"$tmp/diff" 2>&1 ||
        fail "$1: logits: $(cat "$tmp/diff")"
    [ -n "${VERBOSE:-}" ] && echo "$1 $2 $(cat "$tmp/diff")"
}
type_ok F16 10632032 1e-4 F16
type_ok BF16 10632032 1e-4 BF16
type_ok Q8_0 7243232 0.4 Q8_0
type_ok Q6_K 6367808 1.2 Q6_K
type_ok Q5_K_M 5944832 2.5 'Q5_K Q6_K'
type_ok Q5_K_S 5905664 2.5 'Q5_K Q6_K'
type_ok Q5_1 6123136 2.5 'Q5_1 Q6_K'
type_ok Q5_0 5905664 2.5 'Q5_0 Q6_K'
type_ok Q4_1 5688192 4.5 'Q4_1 Q6_K'
type_ok Q4_K_M 5546752 4.5 'Q4_K Q6_K'
type_ok Q4_K_P 5554176 4.5 'Q4_K Q5_K Q6_K'
type_ok Q4_K_S 5478912 4.5 'Q4_K Q5_K Q6_K'
type_ok IQ4_NL 5478912 4.5 'IQ4_NL Q5_K Q6_K'
type_ok Q4_0 5470720 4.5 'Q4_0 Q6_K'
type_ok IQ4_XS 5372224 4.5 'IQ4_XS Q5_K Q6_K'
type_ok Q3_K_M 5160672 6 'Q3_K Q4_K Q5_K Q6_K'
type_ok Q2_K 4777056 9 'Q2_K Q3_K Q4_K Q6_K'

# The mix, tensor by tensor: six layers, of which 1 and 4 are cross-attention; attn_v counts the other four.
tensor() # TYPE NAME: in the last answer
{
    grep -q "^  $2  *[0-9x]* .*-> $1 " "$tmp/out" || fail "$2 is not $1: $(grep "^  $2 " "$tmp/out")"
}
ok quantize "$model" --type Q4_K_M --dry-run --tensors
for name in token_embd blk.0.attn_q blk.1.cross_attn_v_proj blk.2.attn_v blk.3.ffn_down blk.5.attn_output; do
    tensor Q4_K "$name.weight"
done
for name in output blk.3.attn_v blk.5.attn_v blk.2.ffn_down blk.5.ffn_down; do
    tensor Q6_K "$name.weight"
done
tensor F16 v.blk.0.attn_v.weight
tensor F16 v.patch_embd.weight
tensor F32 blk.1.cross_attn_attn_gate
tensor F32 v.tile_position_embd.weight
ok quantize "$model" --type Q4_K_M --vision Q8_0 --dry-run --tensors --override 'blk.*.attn_v.weight=Q8_0' \
    --override 'blk.2.attn_*=Q5_K'
tensor Q8_0 v.blk.0.attn_v.weight
tensor F16 v.position_embd.weight
tensor Q8_0 blk.0.attn_v.weight
tensor Q5_K blk.2.attn_v.weight
tensor F32 blk.2.attn_norm.weight
ok quantize "$llama/model" --type Q4_K_M --dry-run --tensors
tensor Q5_0 blk.0.attn_q.weight
tensor Q8_0 token_embd.weight
grep -q '^22 tensors are of another type' "$tmp/out" || fail "no word of what does not fit: $(tail -n 1 "$tmp/out")"

# Bytes: the number of threads does not matter, what has the type already is copied, the split form becomes the same.
ok quantize "$model" "$out" --type Q4_K_M --force
ok quantize "$model" "$tmp/threads.gguf" --type Q4_K_M -t 3
cmp -s "$out" "$tmp/threads.gguf" || fail 'three threads write another file'
ok quantize "$out" "$tmp/again.gguf" --type Q4_K_M
cmp -s "$out" "$tmp/again.gguf" || fail 'the same type again is another file'
ok quantize "$tmp/f16.gguf" "$tmp/from16.gguf" --type Q4_K_M
cmp -s "$out" "$tmp/from16.gguf" || fail 'from F16 is another file than from BF16'
ok quantize "$out" "$tmp/again.gguf" --type Q8_0 --force
grep -q 'were quantised already' "$tmp/out" || fail 'no word of quantising twice'
ollama=$src/tests/data/ollama
ok quantize "$ollama/tiny-b-text.gguf" --projector "$ollama/tiny-b-projector.gguf" "$tmp/b.gguf" --type F16
ok verify "$src/tests/data/tiny-b" -m "$tmp/b.gguf"
ok info "$tmp/b.gguf" --json
same 'format of what was split' "$(json "$tmp/out" format)" 'gguf (combined)'
ok quantize "$ollama/tiny-a-combined-f16.gguf" "$tmp/a.gguf" --type F32
ok verify "$data" -m "$tmp/a.gguf"

# Importance: one tensor of 256 columns in the old format
number() # bytes of a small integer
{
    printf '%b' "\\0$(printf %o "$1")\\0\\0\\0"
}
columns() # N: that many times 1.0
{
    k=0
    while [ $k -lt "$1" ]; do
        printf '\000\000\200\077'
        k=$((k + 1))
    done
}
entry() # NAME
{
    number ${#1}
    printf %s "$1"
    number 1
    printf '\000\001\000\000'
    printf '\000\000\310\102' # the first column: 100
    columns 255
}
{
    number 1
    entry blk.0.attn_q.weight
} >"$tmp/imatrix.dat"
ok quantize "$model" "$tmp/i.gguf" --type Q4_K_M --imatrix "$tmp/imatrix.dat"
grep -q '^1 tensors by importance, 43 without' "$tmp/out" || fail "importance: $(cat "$tmp/out")"
same 'importance changes no size' "$(stat -c %s "$tmp/i.gguf")" "$(stat -c %s "$out")"
cmp -s "$out" "$tmp/i.gguf" && fail 'importance changed nothing'
wrong 1 'another one' quantize "$llama/model" "$tmp/x" --type Q4_K_M --imatrix "$tmp/imatrix.dat"
{
    number 2
    entry blk.0.attn_q.weight
    entry blk.1.attn_q.weight
} >"$tmp/other.dat"
wrong 1 "no 'blk.1.attn_q.weight'; it was made for another" quantize "$model" "$tmp/x" --type Q4_K_M \
    --imatrix "$tmp/other.dat"
head -c 500 "$tmp/imatrix.dat" >"$tmp/cut.dat"
wrong 1 'cut.dat: neither' quantize "$model" "$tmp/x" --type Q4_K_M --imatrix "$tmp/cut.dat"
wrong 1 'no importance' quantize "$model" "$tmp/x" --type Q4_K_M --imatrix "$tmp/f16.gguf"

# Values that are none, or too large
damaged=$tmp/damaged
cp -r "$llama/model" "$damaged"
chmod -R u+w "$damaged"
file=$damaged/model.safetensors
head=$(od -An -N8 -tu8 "$file" | tr -d ' ')
first=$(head -c $((head + 8)) "$file" | tail -c "$head" | tr '{' '\n' | grep -B1 '"data_offsets": *\[0,' |
    sed -n '1s/.*"\([^"]*\)": *$/\1/p')
[ -n "$first" ] || fail 'which tensor is the first?'
poke() # BYTES: into its fourth value
{
    printf '%b' "$1" | dd of="$file" bs=1 seek=$((head + 8 + 6)) conv=notrunc 2>/dev/null
}
ok quantize --check "$damaged"
grep -q 'all finite' "$tmp/out" || fail "--check: $(cat "$tmp/out")"
poke '\0300\0177'
wrong 1 "'$first' has a value that is not a number (row 0, column 3)" quantize "$damaged" "$tmp/x" --type Q8_0
call quantize --check "$damaged"
[ "$rc" -eq 1 ] || fail "--check of a damaged model: exit $rc"
grep -q "^  $first: 1 of " "$tmp/out" || fail "--check: $(cat "$tmp/out")"
grep -q '1 damaged tensors' "$tmp/err" || fail "--check: $(cat "$tmp/err")"
poke '\0200\0377'
wrong 1 "'$first' has a value that is infinite" quantize "$damaged" "$tmp/x" --type BF16 -t 2
poke '\0000\0177'
wrong 1 'too large for F16' quantize "$damaged" "$tmp/x" --type F16
ok quantize "$damaged" "$tmp/large.gguf" --type BF16

# Refusals
wrong 1 "unknown type 'Q9_K'; there are F32, " quantize "$model" "$tmp/x" --type Q9_K
wrong 1 'exists' quantize "$model" "$out" --type Q8_0
cp "$out" "$tmp/self.gguf"
wrong 1 'is the model itself' quantize "$tmp/self.gguf" "$tmp/self.gguf" --type Q8_0 --force
cmp -s "$out" "$tmp/self.gguf" || fail 'the model itself was changed'
wrong 1 'no.such' quantize "$tmp/no.such" "$tmp/x" --type Q8_0
wrong 1 'directory' quantize "$model" "$tmp" --type Q8_0 --force
wrong 1 'no-folder' quantize "$model" "$tmp/no-folder/x" --type Q8_0
wrong 1 "'Q4_K_M' is no number format of a tensor" quantize "$model" "$tmp/x" --type Q8_0 --override 'blk.*=Q4_K_M'
wrong 1 "no tensor's name matches 'blub'" quantize "$model" "$tmp/x" --type Q8_0 --override blub=Q4_K
wrong 1 'norms, biases' quantize "$model" "$tmp/x" --type Q8_0 --override 'blk.0.attn_norm.weight=Q8_0'
wrong 1 'do not divide' quantize "$llama/model" "$tmp/x" --type Q8_0 --override 'blk.0.attn_q.weight=Q4_K'
wrong 2 'PATTERN=TYPE' quantize "$model" "$tmp/x" --type Q8_0 --override Q4_K
wrong 2 'which number format' quantize "$model" "$tmp/x"
wrong 2 'where to' quantize "$model" --type Q8_0
wrong 2 'exclude each other' quantize "$model" --check --dry-run --type Q8_0
wrong 2 'one of' quantize "$model" "$tmp/x" --type Q8_0 --vision Q4_K

# No room: nothing is left, and what stood there stays
[ ! -e "$tmp/x" ] || fail 'a call that failed left a file'
wrong 1 'No space left' quantize "$model" /dev/full --type Q8_0
before=$(find "$tmp" | wc -l)
(
    n_bad=0
    ulimit -f 1000
    wrong 1 'File too large' quantize "$model" "$out" --type Q8_0 --force
    [ "$n_bad" -eq 0 ]
) || fail 'a limit on the size of files'
same 'files after a full disk' "$(find "$tmp" | wc -l)" "$before"
ok verify "$data" -m "$tmp/f16.gguf"
cmp -s "$out" "$tmp/threads.gguf" || fail 'the old file was changed'

# Stopped in the middle
ok synth --arch 1b --type Q4_0 --layers 1 "$tmp/long.gguf"
stopped() # SIGNAL STATUS FILES-LEFT
{
    "$puna" quantize "$tmp/long.gguf" "$tmp/stopped.gguf" --type IQ4_XS >"$tmp/out" 2>"$tmp/err" </dev/null &
    pid=$!
    k=0
    while [ -z "$(find "$tmp" -name 'stopped.gguf.*')" ] && [ $k -lt 600 ]; do
        sleep 0.1
        k=$((k + 1))
    done
    kill "-$1" $pid
    wait $pid
    same "exit status after $1" "$?" "$2"
    [ ! -e "$tmp/stopped.gguf" ] || fail "half a file has the name after $1"
    same "files after $1" "$(find "$tmp" -name 'stopped.gguf*' | wc -l)" "$3"
}
stopped TERM 143 0
stopped KILL 137 1
finish
