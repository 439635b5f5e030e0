#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every command has a man page; the page and --help name the same options; puna.1 names the commands.
set -u
src=${PUNA_SRCDIR:-.} puna=${PUNA:-puna}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
export LC_ALL=C
bad=0 seen=0
commands=$("$puna" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z]*\) .*/\1/p' | grep -vx help)
for c in $commands; do
    page=$src/man/puna-$c.1
    [ -f "$page" ] || { echo "$c: no man page"; bad=$((bad + 1)); continue; }
    grep -q "^.BR puna.-$c (1)" "$src/man/puna.1" || { echo "puna.1 does not name $c"; bad=$((bad + 1)); }
    # the options' own lines, not mentions of them in text
    "$puna" "$c" --help | sed -nE 's/^  (-.,|   ) (--[a-z0-9-]+).*/\1\2/p' | tr -d ' ' | sort >"$tmp/help"
    sed 's/\\-/-/g' "$page" | awk 'tag { print; tag = 0 } $1 == ".TP" { tag = 1 }' |
        sed -nE 's/^\.BR? (-.)?( ", " )?(--[a-z0-9-]+).*/\1,\3/p' | sed 's/^,//' | sort >"$tmp/page"
    if [ ! -s "$tmp/help" ] || ! diff -u "$tmp/page" "$tmp/help" >"$tmp/diff"; then
        echo "$c: man page (-) and --help (+) differ:"
        cat "$tmp/diff"
        bad=$((bad + 1))
    fi
    seen=$((seen + $(wc -l <"$tmp/help")))
done
if command -v mandoc >/dev/null; then
    mandoc -Tlint -W warning "$src"/man/*.1 || bad=$((bad + 1))
fi
echo "$seen options, $bad complaints"
[ "$seen" -ge 50 ] && [ "$bad" -eq 0 ]
