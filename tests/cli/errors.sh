#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What cannot be done ends with 1, one sentence that names the thing, and nothing on stdout or on disk.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
not_brief
pic=$images/one.png
out=$tmp/out.safetensors

# models
for c in 'run -p x' 'tokenize -p x' "logits -p x -o $out" "encode -i $pic -o $out" info 'bench --runs 1'; do
    # shellcheck disable=SC2086
    wrong 1 "$tmp/none" $c -m "$tmp/none"
done
: >"$tmp/empty.gguf"
wrong 1 empty.gguf run -p x -m "$tmp/empty.gguf"
printf 'GGUF then nonsense' >"$tmp/broken.gguf"
wrong 1 broken.gguf info "$tmp/broken.gguf"
mkdir "$tmp/folder"
wrong 1 folder run -p x -m "$tmp/folder"
wrong 1 'takes no projector' tokenize -p x -m "$model" --projector "$tmp/none"
wrong 1 quantum run -p x -m "$model" --cpu quantum
PUNA_DEMO_MODEL=$tmp/no-demo wrong 1 no-demo run -p x

# pictures: missing, no picture, broken, a folder
cp "$data/cases.json" "$tmp/text.png"
head -c 1000 "$pic" >"$tmp/cut.png"
: >"$tmp/empty.png"
for bad in none.png text.png cut.png empty.png folder; do
    wrong 1 "$tmp/$bad" run -m "$model" -p x -i "$pic" -i "$tmp/$bad"
    wrong 1 "$tmp/$bad" run -m "$model" --raw -p x -i "$pic" -i "$tmp/$bad"
    wrong 1 "$tmp/$bad" logits -m "$model" --ids 512,528,528 -i "$pic" -i "$tmp/$bad" -o "$out"
    call encode -m "$model" -i "$pic" -i "$tmp/$bad" -o "$out"
    [ "$rc" -eq 1 ] || fail "encode $bad: exit $rc"
    grep -q "^puna encode: $tmp/$bad" "$tmp/err" || fail "encode $bad: $(cat "$tmp/err")"
done
wrong 1 'one.png' encode -m "$model" -i "$pic" --max-pixels 100 -o "$out"
wrong 1 'one.png' run -m "$model" -i "$pic" -p x --max-pixels 100

# prompts
wrong 1 "$tmp/none" run -m "$model" --prompt-file "$tmp/none"
wrong 1 '99999' logits -m "$model" --ids 1,99999 -o "$out"
wrong 1 'does not fit' run -m "$model" -p "$(head -c 200 "$data/cases.json")" --ctx 20
wrong 1 'ontext' run -m "$model" -p x --ctx 1000000
wrong 1 'picture' run -m "$src/tests/data/tiny-llama/model" -p x -i "$pic"
wrong 1 'prompt has 1 <|image|> token but 0 pictures' logits -m "$model" --ids 512,528 -o "$out"
wrong 1 'prompt has 0 <|image|> tokens but 1 picture' logits -m "$model" --ids 512 -i "$pic" -o "$out"
[ ! -e "$out" ] || fail 'a call that failed left a file'

# outputs
wrong 1 "$tmp/none/x: cannot create it" logits -m "$model" --ids 1 -o "$tmp/none/x"
wrong 1 "$tmp/none/x: cannot create it" encode -m "$model" -i "$pic" -o "$tmp/none/x"
wrong 1 'is a directory' logits -m "$model" --ids 1 -o "$tmp/folder"
wrong 1 'cannot make the directory' encode -m "$model" -i "$pic" --png "$tmp/none/x" -o "$out"
wrong 1 '/dev/full: cannot write: No space' logits -m "$model" --ids 1 -o /dev/full
echo precious >"$out"
wrong 1 '99999' logits -m "$model" --ids 1,99999 -o "$out"
same 'a file that is there survives a failure' "$(cat "$out")" precious
call synth --arch 1b --layers 1 "$tmp/none/x.gguf"
[ "$rc" -eq 1 ] && grep -q "$tmp/none/x.gguf" "$tmp/err" || fail "synth: exit $rc: $(cat "$tmp/err")"
call synth --arch 1b --type nonsense --dry-run "$tmp/x.gguf"
[ "$rc" -eq 1 ] && grep -q nonsense "$tmp/err" || fail "synth: exit $rc: $(cat "$tmp/err")"

# standard output that takes nothing
full() # ARGS: exit 1 and a sentence, with stdout on a full disk and on a closed pipe
{
    n_calls=$((n_calls + 1))
    "$puna" "$@" </dev/null 2>"$tmp/err" >/dev/full
    rc=$?
    [ "$rc" -eq 1 ] || fail "puna $*: full disk, exit $rc"
    grep -q '^puna.*: cannot write the answer to standard output: No space' "$tmp/err" ||
        fail "puna $*: full disk: $(cat "$tmp/err")"
    { "$puna" "$@" </dev/null 2>"$tmp/err"; echo $? >"$tmp/rc"; } | :
    rc=$(cat "$tmp/rc")
    # the reader may have been slow to go: then nothing is wrong
    [ "$rc" -eq 0 ] || { [ "$rc" -eq 1 ] && grep -q 'Broken pipe' "$tmp/err"; } ||
        fail "puna $*: closed pipe, exit $rc: $(cat "$tmp/err")"
}
for fd in 0 1 2; do # a stream that the caller closed is not taken by a file
    n_calls=$((n_calls + 1))
    eval "\"\$puna\" logits -m \"\$model\" --ids 1 -o \"\$tmp/closed\$fd\" $fd>&-" || fail "stream $fd closed: exit $?"
done
cmp -s "$tmp/closed0" "$tmp/closed1" && cmp -s "$tmp/closed0" "$tmp/closed2" || fail 'a closed stream changes a file'
n_calls=$((n_calls + 1))
"$puna" tokenize -m "$model" -p Hello >&- 2>"$tmp/err" && fail 'standard output is closed, but no error'
full --help
full --version
full run --help
full run -m "$model" -p Hello -n 4 --temp 0
full run -m "$model" -p Hello -n 4 --json
full tokenize -m "$model" -p Hello
full tokenize -m "$model" -p Hello --json
full info "$model"
full info "$model" --json
full verify "$src/tests/data/tiny-llama"
full doctor --quick
full encode -m "$model" -i "$pic" --no-features -o "$out"
full synth --arch 1b --dry-run x
left=$(cd "$tmp" && echo ./*.[A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9])
same 'temporary files' "$left" './*.[A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9]'
finish
