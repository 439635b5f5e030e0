#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The chat, on a terminal of its own: commands, pictures, interruption, history, what is saved.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
not_brief
XDG_STATE_HOME=$tmp/state
TERM=xterm
NO_COLOR=1
export XDG_STATE_HOME TERM NO_COLOR
cp "$images/one.png" "$tmp/my picture.png"

chat() # NAME ARGS, the script on stdin: what came is in $tmp/NAME
{
    name=$1
    shift
    cat >"$tmp/script"
    n_calls=$((n_calls + 1))
    # shellcheck disable=SC2086
    tool ptychat "$tmp/script" "$puna" run -m "$model" --temp 0 "$@" >"$tmp/$name"
    rc=$?
    [ "$rc" -eq 0 ] || fail "chat $name: exit $rc: $(cat -v "$tmp/$name")"
}

chat talk -n 8 <<EOF
expect /help for help
expect >
send /help
expect /image FILE
send /image $tmp/none.png
expect none.png
send /image $data/cases.json
expect cases.json
send /frobnicate
expect there is no /frobnicate
send /image '$tmp/my picture.png'
expect goes with the next message
send What is this?
expect reached -n 8 tokens
send and \\
expect .
send that?
expect reached -n 8 tokens
send /save $tmp/saved.md
expect saved to
send /exit
EOF
# what was said, word for word; the answers are the model's
sed -n '/^## user/,/^## assistant/p' "$tmp/saved.md" | tr '\n' '/' >"$tmp/said"
same 'what was saved' "$(cat "$tmp/said")" \
    "## user//![]($tmp/my picture.png)//What is this?//## assistant/## user//and /that?//## assistant/"
# the first turn's answer is that of a single question
ok run -m "$model" -i "$images/one.png" -p 'What is this?' --temp 0 -n 8
sed -n '/^## assistant/,/^## user/p' "$tmp/saved.md" | sed '1,2d' | head -n "$(wc -l <"$tmp/out")" >"$tmp/first"
cmp -s "$tmp/first" "$tmp/out" || fail "the chat's first answer differs from the single one"

# the history is kept between chats, and Ctrl-P finds it; Ctrl-C drops the line; Ctrl-D leaves
grep -q 'What' "$tmp/state/puna/history" || fail 'no history was saved'
chat again -n 2 <<EOF
expect >
idle
key p
expect /exit
key p
expect /save
key c
expect >
idle
send still there?
expect reached -n 2
expect >
idle
key d
EOF

# Ctrl-C during an answer stops the answer, and the chat goes on
long_model
chat stop -m "$long" --ctx 131072 -t 2 --ignore-eos --cpu scalar --precise <<EOF
expect >
idle
send tell me all
expect tell me all
bytes 200
key c
expect stopped
expect >
idle
send and more
expect and more
bytes 200
key c
expect stopped
expect >
send /save $tmp/stopped.md
expect saved to
send /quit
EOF
same 'turns kept after two stops' "$(grep -c '^## assistant' "$tmp/stopped.md")" "$(grep -c '^## user' "$tmp/stopped.md")"
[ "$(grep -c '^## user' "$tmp/stopped.md")" -le 2 ] || fail 'more turns than messages'

# /clear and /system begin anew; a full context says what to do
chat anew -n 4 --ctx 130 <<EOF
expect >
send one
expect reached -n 4
send a message that is much too long for the little context that this conversation has been given, really
expect does not fit
expect /clear begins a new one
send /clear
expect >
send one
expect reached -n 4
send /system Answer in verse.
expect begins anew
send one
expect reached -n 4
send /save $tmp/anew.md
expect saved to
expect >
idle
key d
EOF
same 'turns after /system' "$(grep -c '^## user' "$tmp/anew.md")" 1

# a picture on the command line goes with the first message, later ones with theirs
chat pictures -n 4 -i "$images/one.png" --timings <<EOF
expect >
send look
expect 1 picture (0 from the cache)
expect seed
send /image $images/wide.png
expect 254x53
send and this
expect 1 picture (0 from the cache)
expect seed
send /image $images/one.png
expect 47x36
send again
expect 1 picture (1 from the cache)
expect seed
send /exit
EOF

# hanging up ends the program
cat >"$tmp/script" <<EOF
expect >
expect this never comes
EOF
tool ptychat "$tmp/script" sh -c 'exit 3' >"$tmp/out"
same 'ptychat notices' $? 99
n_calls=$((n_calls + 1))
finish
