#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The shared library exports tests/symbols.txt and nothing else; that list is what puna.h declares;
# and the program's own objects use nothing of the library but those names and the base room.
set -u
src=${PUNA_SRCDIR:-.} build=${PUNA_BUILDDIR:-.}
read -ra nm <<<"${NM:-nm}" # libtool says "nm -B"
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
export LC_ALL=C
bad=0
so=$build/.libs/libpuna.so
# Declarations start in the first column and may go over several lines.
sed -n '/^PUNA_API/{:a;/(/!{N;ba};s/\n/ /g;p}' "$src/include/puna.h" |
    sed -E 's/^[^(]*[ *](puna_[a-z0-9_]+)\(.*/\1/' | sort >"$tmp/declared"
diff -u "$src/tests/symbols.txt" "$tmp/declared" >"$tmp/diff" ||
    { echo "puna.h does not declare what tests/symbols.txt lists:"; cat "$tmp/diff"; bad=1; }
if [ -f "$so" ]; then
    "${nm[@]}" -D --defined-only "$so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$tmp/exported"
    diff -u "$src/tests/symbols.txt" "$tmp/exported" >"$tmp/diff" ||
        { echo "$so does not export what tests/symbols.txt lists:"; cat "$tmp/diff"; bad=1; }
else
    echo "no shared library in this build"
fi
"${nm[@]}" --defined-only "$build"/src/base/.libs/*.o | awk 'NF == 3 { print $3 }' | sort -u >"$tmp/base"
[ -s "$tmp/base" ] || { echo "no objects of src/base in $build"; bad=1; }
"${nm[@]}" --defined-only "$build"/src/cli/*.o | awk 'NF == 3 { print $3 }' | sort -u >"$tmp/own"
[ -s "$tmp/own" ] || { echo "no objects of src/cli in $build"; bad=1; }
"${nm[@]}" -u "$build"/src/cli/*.o | awk '$2 ~ /^pn_/ { print $2 }' | sort -u |
    comm -23 - "$tmp/own" | comm -23 - "$tmp/base" >"$tmp/leak"
[ -s "$tmp/leak" ] && { echo "src/cli uses internals of the library:"; cat "$tmp/leak"; bad=1; }
echo "$(wc -l <"$tmp/declared") public functions"
exit $bad
