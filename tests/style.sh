#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Mechanical style of the C sources: licence line first, no tabs, no trailing blanks, a newline at the
# end, at most 120 columns (100 is the aim), plain ASCII outside comments and strings of tests, none of the functions
# that this tree does without.
set -u
cd "${PUNA_SRCDIR:-.}" || exit 1
export LC_ALL=C.UTF-8
bad=0 seen=0
complain() { echo "$1"; bad=$((bad + 1)); }
while IFS= read -r f; do
    seen=$((seen + 1))
    IFS= read -r first <"$f"
    case $first in '/* SPDX-License-Identifier: Apache-2.0 */') ;; *) complain "$f:1: no SPDX line" ;; esac
    [ -z "$(tail -c 1 "$f")" ] || complain "$f: no newline at the end"
    while IFS= read -r hit; do complain "$f:$hit"; done < <(
        grep -nP '\t' "$f" | sed 's/:.*/: tab/'
        grep -nE ' +$' "$f" | sed 's/:.*/: blank at the end of the line/'
        grep -nE '.{121}' "$f" | sed 's/:.*/: more than 120 columns/'
        grep -nwE '(sprintf|vsprintf|strcpy|strcat|strtok|atoi|atol|atof|sscanf|gets|alloca|rand|srand)[ ]*\(' "$f" |
            grep -vE '^[0-9]+: *(/?\*|//)' | sed -E 's/^([0-9]+):.*/\1: banned function/'
        grep -nE '\b(TODO|FIXME|XXX)\b' "$f" | sed 's/:.*/: unfinished/'
    )
done < <(find include src simd tests doc/examples -name '*.[ch]' -o -name '*.inc' | sort)
echo "$seen files, $bad complaints"
[ "$seen" -ge 30 ] && [ "$bad" -eq 0 ]
