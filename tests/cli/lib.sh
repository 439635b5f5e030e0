# SPDX-License-Identifier: Apache-2.0
# What the tests of the program share. A test calls puna, says what is wrong, and ends with finish.
# shellcheck shell=sh
set -u
src=${PUNA_SRCDIR:-.}
build=${PUNA_BUILDDIR:-.}
puna=${PUNA:-puna}
data=$src/tests/data/tiny-a
model=$data/model
images=$data/images
golden=$data/golden.safetensors
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
LC_ALL=C.UTF-8
export LC_ALL
# The machine that tests may be busy with other tests: threads that wait for each other would be slow.
PUNA_THREADS=1
export PUNA_THREADS
n_calls=0
n_bad=0
rc=0

# For tests of nothing that the CPU has a part in: not under an emulator, where they take minutes.
not_brief()
{
    [ -z "${PUNA_TEST_BRIEF:-}" ] || { echo 'brief: skipped, as nothing here depends on the CPU'; exit 77; }
}

fail()
{
    echo "FAILED: $*"
    n_bad=$((n_bad + 1))
}

# For tests of bits: openblas promises none, so where it is the best tier the scalar reference runs.
exact_tier()
{
    ok doctor --quick --json
    if [ "$(tool jsonget "$tmp/out" tier)" = openblas ]; then
        echo 'openblas promises no bits: run in the scalar tier'
        PUNA_CPU=scalar
        export PUNA_CPU
    fi
}

# A copy of the model that may go on for so long that no interruption can come too late.
long_model()
{
    long=$tmp/long-model
    cp -r "$model" "$long"
    chmod -R u+w "$long"
    sed -i 's/"max_position_embeddings": 1024/"max_position_embeddings": 131072/' "$long/config.json"
    grep -q 131072 "$long/config.json" || fail 'long_model: nothing was changed'
}

# A program of this folder, under the same emulator as puna.
tool()
{
    program=$1
    shift
    # shellcheck disable=SC2086
    ${TEST_WRAPPER:-} "$build/tests/cli/$program" "$@"
}

# puna ARGS: what it did is in $rc, $tmp/out and $tmp/err.
call()
{
    n_calls=$((n_calls + 1))
    "$puna" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    rc=$?
}

# puna ARGS must succeed silently on stderr.
ok()
{
    call "$@"
    if [ "$rc" -ne 0 ] || [ -s "$tmp/err" ]; then
        fail "puna $*: exit $rc: $(cat "$tmp/err")"
        return 1
    fi
}

# wrong STATUS PATTERN ARGS: exit status, nothing on stdout, one sentence on stderr that names the
# command and matches PATTERN.
wrong()
{
    want=$1
    pattern=$2
    shift 2
    call "$@"
    [ "$rc" -eq "$want" ] || fail "puna $*: exit $rc instead of $want: $(cat "$tmp/err")"
    [ ! -s "$tmp/out" ] || fail "puna $*: wrote to stdout: $(head -c 200 "$tmp/out")"
    [ "$(wc -l <"$tmp/err")" -eq 1 ] || fail "puna $*: not one line on stderr: $(cat "$tmp/err")"
    grep -q "^puna $1: " "$tmp/err" || fail "puna $*: does not name the command: $(cat "$tmp/err")"
    grep -q -e "$pattern" "$tmp/err" || fail "puna $*: '$(cat "$tmp/err")' does not match '$pattern'"
}

# same WHAT A B
same()
{
    [ "$2" = "$3" ] || fail "$1: '$2' instead of '$3'"
}

json()
{
    tool jsonget "$@"
}

finish()
{
    echo "$n_calls calls, $n_bad wrong"
    [ "$n_calls" -gt 0 ] && [ "$n_bad" -eq 0 ]
    exit
}
