#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# puna score: answers as puna run gives them, the table, going on after an interruption, ranking.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
not_brief
exact_tier

set=$tmp/set
mkdir "$set"
cp "$images/wide.png" "$images/one.png" "$set"
questions=$set/questions.jsonl
ask()
{
    call run -m "$model" --temp 0 -n 12 "$@" --json
    json "$tmp/out" text >"$tmp/said"
}
# a record whose answer is what the model says, then some whose answer is not
ask -i "$images/wide.png" -p 'What is it?'
said=$(sed -n '/"text"/s/^{"text": \("\([^"\\]\|\\.\)*"\).*/\1/p' "$tmp/out")
{
    echo "{\"image\": \"wide.png\", \"question\": \"What is it?\", \"answer\": [\"no\", $said], \"kind\": \"a\", \"id\": 7}"
    echo '{"image": "one.png", "question": "What is it?", "answer": "never said", "kind": "b"}'
    echo
    echo '{"question": "And now?", "answers": ["never said"], "kind": "a"}'
    echo '{"images": ["wide.png", "one.png"], "prompt": "Both?", "answer": "never said"}'
} >"$questions"
ok score -m "$model" "$questions" -n 12 --json
same 'all' "$(json "$tmp/out" all.n) $(json "$tmp/out" all.exact.mean)" '4 0.25'
same 'kind a' "$(json "$tmp/out" kinds.a.n) $(json "$tmp/out" kinds.a.exact.mean)" '2 0.5'
same 'kind b' "$(json "$tmp/out" kinds.b.n) $(json "$tmp/out" kinds.b.exact.mean)" '1 0.0'
same 'the interval' "$(json "$tmp/out" all.exact.interval)" wilson
ok score -m "$model" "$questions" -n 12
cp "$tmp/out" "$tmp/table"
grep -q '^a  *50.00 %  *9.45 to  *90.55 *of 2$' "$tmp/table" || fail "the table: $(cat "$tmp/table")"

# every answer in a file; what stands there is not asked again, a torn line is
ok score -m "$model" "$questions" -n 12 -o "$tmp/whole"
cmp -s "$tmp/out" "$tmp/table" || fail '-o changes the table'
same 'lines' "$(wc -l <"$tmp/whole")" 4
ok score -m "$model" "$questions" -n 12 -o "$tmp/part" --records 2
same 'lines' "$(wc -l <"$tmp/part")" 2
sed -n 3p "$tmp/whole" | head -c 40 >>"$tmp/part"
ok score -m "$model" "$questions" -n 12 -o "$tmp/part"
cmp -s "$tmp/part" "$tmp/whole" || fail 'a run in two parts writes something else'
cmp -s "$tmp/out" "$tmp/table" || fail 'a run in two parts gives another table'
ok score -m "$model" "$questions" -n 12 -o "$tmp/part" -t 2
cmp -s "$tmp/part" "$tmp/whole" || fail 'a run with nothing left to do writes something'
wrong 1 'line 1 comes from another' score -m "$model" "$questions" -n 13 -o "$tmp/part"
wrong 1 'line 1 comes from another' score -m "$model" "$questions" -n 12 --metric anls -o "$tmp/part"
wrong 1 'line 1 comes from another' score -m "$model" "$questions" -n 12 --suffix x -o "$tmp/part"
head -n 2 "$questions" >"$set/fewer.jsonl"
wrong 1 'more lines than' score -m "$model" "$set/fewer.jsonl" -n 12 -o "$tmp/part"
cp "$questions" "$tmp/other"
wrong 1 'is no result' score -m "$model" "$questions" -o "$tmp/other"
cmp -s "$questions" "$tmp/other" || fail 'a file that is no result was changed'

# the other metrics and their records
cat >"$set/more.jsonl" <<'END'
{"question": "Q", "choices": ["cat", "dog"], "answer": 1}
{"question": "Q", "answer": [{"answer": "yes", "answer_id": 1}, {"answer": "no", "answer_id": 2}]}
END
for metric in relaxed anls vqa choice; do
    ok score -m "$model" "$set/more.jsonl" --metric $metric -n 4 --json
    same "$metric" "$(json "$tmp/out" all.n)" 2
done

# ranking: the sum of what puna perplexity finds for each candidate alone
cat >"$set/rank.jsonl" <<'END'
{"image": "wide.png", "prompt": "Caption:", "candidates": ["a cat", "b", "something wide"], "answer": "b", "kind": "k"}
{"image": "wide.png", "candidates": ["x", "yy"], "answer": [1]}
{"candidates": ["x", "yy"]}
END
ok score -m "$model" "$set/rank.jsonl" --rank -o "$tmp/ranks" --json
same 'n' "$(json "$tmp/out" all.n)" 2
same 'recall@5' "$(json "$tmp/out" 'all.recall@5.mean')" 1.0
head -n 1 "$tmp/ranks" >"$tmp/line"
i=0
for text in 'a cat' b 'something wide'; do
    printf '{"image": "wide.png", "prompt": "Caption:", "answer": "%s"}\n' "$text" >"$set/alone.jsonl"
    ok perplexity -m "$model" "$set/alone.jsonl" --json
    n=$(json "$tmp/out" tokens)
    ppl=$(json "$tmp/out" perplexity.value)
    awk -v n="$n" -v p="$ppl" -v s="$(json "$tmp/line" "logprobs.$i")" \
        'BEGIN { d = s + n * log(p); exit !(d < 1e-3 && d > -1e-3) }' || fail "candidate $i: $(cat "$tmp/line")"
    i=$((i + 1))
done
best=$(json "$tmp/line" ranking | cut -d' ' -f1)
awk -v best="$best" -v l="$(json "$tmp/line" logprobs)" \
    'BEGIN { n = split(l, v, " "); for (i = 1; i <= n; i++) if (v[i] > v[best + 1]) exit 1 }' || fail 'the order'
ok score -m "$model" "$set/rank.jsonl" --rank --per-token

# mistakes, named with file and line
bad() # PATTERN RECORD [OPTIONS]
{
    pattern=$1
    printf '%s\n' '{"question": "Q", "answer": "A", "candidates": ["A"]}' "$2" >"$set/bad.jsonl"
    shift 2
    wrong 1 "bad.jsonl:2: .*$pattern" score -m "$model" "$set/bad.jsonl" -n 2 "$@"
}
bad 'no "answer"' '{"question": "Q"}'
bad 'neither "prompt" nor' '{"answer": "A"}'
bad 'not a string' '{"question": 1, "answer": "A"}'
bad 'nowhere.png' '{"image": "nowhere.png", "question": "Q", "answer": "A"}'
bad 'neither a file name' '{"image": 5, "question": "Q", "answer": "A"}'
bad 'not a JSON object' '["x"]'
bad 'no JSON' '{"question": "Q", '
bad 'no JSON' '{"question": "Q", "question": "Q", "answer": "A"}'
bad 'no "candidates"' '{"question": "Q", "answer": "A"}' --rank
bad 'none of the candidates' '{"question": "Q", "answer": "B", "candidates": ["A"]}' --rank
: >"$tmp/empty.jsonl"
wrong 1 'holds no records' score -m "$model" "$tmp/empty.jsonl"
wrong 1 'nothing.jsonl' score -m "$model" "$tmp/nothing.jsonl"
finish
