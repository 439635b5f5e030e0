#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# puna run, one question: the reference's tokens, sampling, stopping, sources of the question, JSON.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1

# greedy tokens of every case, through the program's own prompt and picture handling
i=0
while json "$data/cases.json" "cases.$i.name" >"$tmp/name" 2>/dev/null; do
    prompt=$(json "$data/cases.json" "cases.$i.prompt" && echo .)
    set --
    for k in 0 1 2; do
        image=$(json "$data/cases.json" "cases.$i.images.$k" 2>/dev/null) || break
        set -- "$@" -i "$images/$image.png"
    done
    ok run -m "$model" --raw -p "${prompt%??}" "$@" --precise --temp 0 --ignore-eos -n 16 --json
    # end tokens (513, 520, 521) are never chosen here; the reference has none of them
    same "$(cat "$tmp/name"): greedy" "$(json "$tmp/out" tokens.ids)" "$(json "$data/cases.json" "cases.$i.greedy")"
    i=$((i + 1))
    [ -z "${PUNA_TEST_BRIEF:-}" ] || [ "$i" -lt 4 ] || break
done
[ "$i" -eq "$([ -z "${PUNA_TEST_BRIEF:-}" ] && echo 13 || echo 4)" ] || fail "$i cases"

# the chat template gives what the raw prompt gives
ok run -m "$model" -i "$images/tall.png" -p 'Count.' --precise --temp 0 --ignore-eos -n 16 --json
same 'chat' "$(json "$tmp/out" tokens.ids)" "$(json "$data/cases.json" cases.4.greedy)"
same 'prompt tokens' "$(json "$tmp/out" tokens.prompt)" 23
same 'pictures' "$(json "$tmp/out" pictures.count)" 1
same 'finish' "$(json "$tmp/out" finish)" length
for key in load_seconds image_seconds prefill_seconds decode_seconds first_token_seconds \
    prefill_tokens_per_second decode_tokens_per_second; do
    json "$tmp/out" timings.$key >/dev/null || fail "no timings.$key"
done
text=$(json "$tmp/out" text)

# the text is the same as it comes, and ends with a newline
ok run -m "$model" -i "$images/tall.png" -p 'Count.' --precise --temp 0 --ignore-eos -n 16
same 'as it comes' "$(tail -c 1 "$tmp/out" | od -An -tx1)" ' 0a'
ok run -m "$model" -p Hello --temp 0 -n 12
cp "$tmp/out" "$tmp/hello"
grep -q "^puna run: prompt [0-9]* tokens in " "$tmp/err" && fail 'timings without --timings'
call run -m "$model" -p Hello --temp 0 -n 12 --timings --seed 7
cmp -s "$tmp/out" "$tmp/hello" || fail '--timings changes the answer'
grep -q 'answer 12 tokens' "$tmp/err" || fail "--timings: $(cat "$tmp/err")"
grep -q 'seed 7$' "$tmp/err" || fail "--timings does not tell the seed: $(cat "$tmp/err")"

# sources of the question
printf 'Hello\n' | "$puna" run -m "$model" --temp 0 -n 12 >"$tmp/out" || fail 'standard input'
cmp -s "$tmp/out" "$tmp/hello" || fail 'standard input gives another answer'
printf 'Hello\n' >"$tmp/question"
ok run -m "$model" --prompt-file "$tmp/question" --temp 0 -n 12
cmp -s "$tmp/out" "$tmp/hello" || fail '--prompt-file gives another answer'
printf 'Hello\n\n' | "$puna" run -m "$model" --temp 0 -n 12 >"$tmp/out" || fail 'standard input'
cmp -s "$tmp/out" "$tmp/hello" && fail 'more than one newline was left away'
"$puna" run -m "$model" -i "$images/one.png" -n 2 </dev/null >"$tmp/out" 2>&1 || fail 'a picture alone'

# seeds
sample() # OUT ARGS
{
    out=$1
    shift
    ok run -m "$model" -p 'Say something' --temp 1.5 --top-k 0 --top-p 1 --ignore-eos -n 24 --json "$@"
    json "$tmp/out" tokens.ids >"$out"
}
sample "$tmp/a" --seed 5
same seed "$(json "$tmp/out" seed)" 5
sample "$tmp/b" --seed 5 -t 2
cmp -s "$tmp/a" "$tmp/b" || fail 'the same seed, another answer'
sample "$tmp/b" --seed 6
cmp -s "$tmp/a" "$tmp/b" && fail 'another seed, the same answer'
sample "$tmp/a"
seed=$(json "$tmp/out" seed)
sample "$tmp/b"
cmp -s "$tmp/a" "$tmp/b" && fail 'no seed, the same answer twice'
sample "$tmp/b" --seed "$seed"
cmp -s "$tmp/a" "$tmp/b" || fail 'the seed told is not the seed used'
# with one candidate left the seed does not matter, whatever the temperature
sample "$tmp/a" --top-k 1
sample "$tmp/b" --min-p 1
cmp -s "$tmp/a" "$tmp/b" || fail '--top-k 1 and --min-p 1 differ'
sample "$tmp/b" --top-p 0
cmp -s "$tmp/a" "$tmp/b" || fail '--top-k 1 and --top-p 0 differ'
sample "$tmp/b" --temp 0
cmp -s "$tmp/a" "$tmp/b" || fail '--top-k 1 and --temp 0 differ'
sample "$tmp/b" --temp 0 --repeat-penalty 2
cmp -s "$tmp/a" "$tmp/b" && fail '--repeat-penalty does nothing'
sample "$tmp/b" --temp 0 --presence-penalty 9
same '--presence-penalty: tokens that come twice' "$(tr ' ' '\n' <"$tmp/b" | sort | uniq -d)" ''
sample "$tmp/b" --temp 0 --frequency-penalty 9
cmp -s "$tmp/a" "$tmp/b" && fail '--frequency-penalty does nothing'
ok run -m "$model" -p x --temp 0 -n 3 --logit-bias 97=100 --json
same '--logit-bias' "$(json "$tmp/out" text)" aaa
ok run -m "$model" -p x --temp 0 -n 3 --logit-bias 97=100 --logit-bias 98=200 --json
same 'two of them' "$(json "$tmp/out" text)" bbb

# where an answer ends
ok run -m "$model" -p x --temp 0 --logit-bias 521=100 --json
same 'end token' "$(json "$tmp/out" finish) $(json "$tmp/out" tokens.generated) $(json "$tmp/out" text)" 'stop 1 '
ok run -m "$model" -p x --temp 0 --logit-bias 521=100 --ignore-eos -n 3 --json
same '--ignore-eos' "$(json "$tmp/out" finish) $(json "$tmp/out" tokens.generated)" 'length 3'
ok run -m "$model" -p x -n 0 --json
same '-n 0' "$(json "$tmp/out" tokens.generated)" 0
ok run -m "$model" -p x --temp 0 --logit-bias 97=100 --ctx 90 --json
same 'full context' "$(json "$tmp/out" finish)" length
[ "$(($(json "$tmp/out" tokens.generated) + $(json "$tmp/out" tokens.prompt)))" -eq 90 ] ||
    fail "a context of 90 tokens held $(json "$tmp/out" tokens)"
ok run -m "$model" -p x --temp 0 --logit-bias 97=100 -n 9 --stop aaa --json
same 'stop string over token borders' "$(json "$tmp/out" finish)/$(json "$tmp/out" text)/$(json "$tmp/out" stop_string)" stop//aaa
ok run -m "$model" -p x --temp 0 --logit-bias 97=100 -n 4 --stop aaab --stop zz
same 'what was held back comes at the end' "$(cat "$tmp/out")" aaaa
word=$(LC_ALL=C tr -c 'a-z' '\n' <"$tmp/hello" | awk 'length > 3 { print; exit }')
[ -n "$word" ] || fail 'the answer to Hello has no word to stop at'
ok run -m "$model" -p Hello --temp 0 -n 12 --stop "$word" --stop never
grep -qa "$word" "$tmp/out" && fail "--stop $word left it in"
[ "$(wc -c <"$tmp/out")" -lt "$(wc -c <"$tmp/hello")" ] || fail '--stop stopped nothing'

# log-probabilities
ok run -m "$model" -p Hello --temp 0 -n 4 --json --logprobs 3
same 'tokens' "$(json "$tmp/out" logprobs.3.id)" "$(json "$tmp/out" tokens.ids.3)"
same 'the best is the chosen' "$(json "$tmp/out" logprobs.2.top.0.logprob)" "$(json "$tmp/out" logprobs.2.logprob)"
json "$tmp/out" logprobs.0.top.2.id >/dev/null || fail 'fewer than three alternatives'
json "$tmp/out" logprobs.0.top.3.id >/dev/null 2>&1 && fail 'more than three alternatives'

# system messages; the model's template refuses them beside pictures
ok run -m "$model" -p Hello --system 'Be brief.' --temp 0 -n 12
cmp -s "$tmp/out" "$tmp/hello" && fail '--system does nothing'
wrong 1 'system' run -m "$model" -p Hello -i "$images/one.png" --system 'Be brief.' -n 1
ok run -m "$model" -p Hello -i "$images/one.png" --system 'Be brief.' --system-in-user -n 1

# numbers of pictures and marks
wrong 1 'has 2 <|image|> but 1 picture was given' run -m "$model" -p '<|image|><|image|>' -i "$images/one.png"
wrong 1 'has 1 <|image|> but 2 pictures were given' run -m "$model" -p 'a<|image|>' -i "$images/one.png" -i "$images/one.png"
wrong 1 'has 1 <|image|> but 0 pictures were given' run -m "$model" -p '<|image|>'
wrong 1 'has 1 <|image|>' run -m "$model" --raw -p '<|image|>'
# the same picture twice is encoded once
ok run -m "$model" -p Hello -i "$images/one.png" -i "$images/one.png" -n 1 --json
same 'cached' "$(json "$tmp/out" pictures)" '{"count": 2, "cached": 1}'

# interruption ends as the signal would; the last call's output must not look like this one's first words
long_model
rm -f "$tmp/out"
"$puna" run -m "$long" --ctx 131072 -p Hello --ignore-eos --cpu scalar --precise </dev/null >"$tmp/out" 2>"$tmp/err" &
pid=$!
while kill -0 $pid 2>/dev/null && [ ! -s "$tmp/out" ]; do sleep 0.05; done
kill -TERM $pid
wait $pid
rc=$?
[ "$rc" -eq 143 ] || fail "SIGTERM: exit $rc"
finish
