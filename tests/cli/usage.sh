#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Commands, options and help: what is called wrongly ends with 2 and one sentence.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
not_brief

commands='run info tokenize logits encode verify bench doctor quantize synth imatrix perplexity score'
ok --version
same version "$(head -n 1 "$tmp/out")" "puna ${PUNA_VERSION:-$(head -n 1 "$tmp/out" | cut -d' ' -f2)}"
ok --help
cp "$tmp/out" "$tmp/help"
same 'the list of commands' \
    "$(sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' "$tmp/help" | tr '\n' ' ')" "$commands help "
ok help
cmp -s "$tmp/out" "$tmp/help" || fail "'puna help' differs from 'puna --help'"
for c in $commands; do
    ok "$c" --help
    cp "$tmp/out" "$tmp/page"
    head -n 1 "$tmp/page" | grep -q "^Usage: puna $c" || fail "$c --help begins otherwise"
    [ -z "$(grep -E '.{80}' "$tmp/page" | grep -v '^Usage')" ] || fail "$c --help has lines over 79 columns"
    grep -q 'Examples:' "$tmp/page" || fail "$c --help has no example"
    ok help "$c"
    cmp -s "$tmp/out" "$tmp/page" || fail "'puna help $c' differs from 'puna $c --help'"
    wrong 2 'no option --frobnicate' "$c" --frobnicate --help
    wrong 2 'no option -@' "$c" -@
done

general() # PATTERN ARGS: wrong before any command is known
{
    pattern=$1
    shift
    call "$@"
    [ "$rc" -eq 2 ] || fail "puna $*: exit $rc"
    [ ! -s "$tmp/out" ] || fail "puna $*: wrote to stdout"
    grep -q "^puna: $pattern" "$tmp/err" || fail "puna $*: $(cat "$tmp/err")"
}
general 'which command'
general "there is no command 'rnu'; did you mean 'run'?" rnu
general "there is no command 'zzzzzz'; 'puna --help'" zzzzzz
general "there is no command 'tokenise'; did you mean 'tokenize'?" help tokenise
general 'there is no option -x' -x
for c in serve batch; do
    general "there is no command '$c'" "$c"
done

wrong 2 'did you mean --temp?' run --temperature 1
wrong 2 'did you mean --top-k?' run --topk 1
wrong 2 "whole number" run --top-k 1.5
wrong 2 "whole number" run --top-k x
wrong 2 "whole number from -1" run -n -2
wrong 2 "whole number from 1" run -t 0
wrong 2 "whole number" run --ctx 99999999999999999999
wrong 2 "takes a number" run --temp nan
wrong 2 "takes a number" run --temp inf
wrong 2 "number from 0 to 1" run --top-p 1.5
wrong 2 "not '-1'" run --seed -1
wrong 2 "not '99999999999999999999'" run --seed 99999999999999999999
wrong 2 'one of f16, f32, bf16, q8_0' run --kv-type q4
wrong 2 'needs a value' run -p
wrong 2 'needs a value' run --prompt
wrong 2 'takes no value' run --json=yes
wrong 2 'too many' run hello
wrong 2 'ID=BIAS' run -m "$model" -p x --logit-bias 5
wrong 2 'ID=BIAS' run -m "$model" -p x --logit-bias 5=nan
wrong 2 'needs --json' run -p x --logprobs 2
wrong 2 'exclude each other' run -p x --prompt-file y
wrong 2 'no chat template' run -p x --raw --system y
wrong 2 'nothing to answer' run -m "$model"
wrong 2 'nothing to answer' run -m "$model" -p ''
wrong 2 'one of --prompt' logits -o "$tmp/x"
wrong 2 'one of --prompt' logits -o "$tmp/x" -p x --ids 1
wrong 2 'give -o' logits -p x
wrong 2 'separated by commas' logits -m "$model" --ids 1,x -o "$tmp/x"
wrong 2 'separated by commas' logits -m "$model" --ids 1,,2 -o "$tmp/x"
wrong 2 'separated by commas' logits -m "$model" --ids '' -o "$tmp/x"
wrong 2 'separated by commas' logits -m "$model" --ids 99999999999 -o "$tmp/x"
wrong 2 'which pictures' encode -m "$model" -o "$tmp/x"
wrong 2 'where should' encode -m "$model" -i "$images/one.png"
wrong 2 'missing' verify
wrong 2 'give -o' imatrix "$tmp/x"
wrong 2 'missing' imatrix -o "$tmp/x"
wrong 2 'missing' perplexity
wrong 2 'missing' score
wrong 2 'for --rank' score "$tmp/x" --per-token
wrong 2 'measures of its own' score "$tmp/x" --rank --metric vqa
wrong 2 'one of exact, relaxed, anls, vqa, choice' score "$tmp/x" --metric bleu
wrong 2 'exclude each other' perplexity "$tmp/x" --kl-base a --save-base b
wrong 2 'too many' verify a b
wrong 2 'exclude each other' verify "$data" --fast --precise
wrong 2 'which shape' synth "$tmp/x"
wrong 2 'missing' synth --arch 1b
wrong 2 'the model once' info "$model" -m "$model"
wrong 2 'such as 560x560' bench -m "$model" --image 560
wrong 2 'such as 560x560' bench -m "$model" --image 560x0
wrong 1 'is unknown; available here' doctor --quick --cpu quantum
[ ! -e "$tmp/x" ] || fail "a call that failed left a file"
finish
