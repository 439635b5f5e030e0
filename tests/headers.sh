#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every header but the templates compiles alone: all of src/ as C11, the public one as C11 and C++17 too, both as a
# user who knows nothing of this tree's flags would.
set -u
src=${PUNA_SRCDIR:-.}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
bad=0 seen=0
check() { # label, then a command reading the program on stdin
    local label=$1
    shift
    seen=$((seen + 1))
    if ! "$@" >"$tmp/out" 2>&1 || [ -s "$tmp/out" ]; then
        echo "$label:"
        cat "$tmp/out"
        bad=$((bad + 1))
    fi
}
read -ra cc <<<"${CC:-cc}"
warn=(-Wall -Wextra -Wstrict-prototypes -Wmissing-prototypes -pedantic)
echo '#include <puna.h>' >"$tmp/p.c"
cp "$tmp/p.c" "$tmp/p.cc"
check 'puna.h as C11' "${cc[@]}" -std=c11 "${warn[@]}" -I"$src/include" -fsyntax-only "$tmp/p.c"
if echo 'int x;' >"$tmp/x.cc" && "${cc[@]}" -x c++ -fsyntax-only "$tmp/x.cc" 2>/dev/null; then
    check 'puna.h as C++17' "${cc[@]}" -x c++ -std=c++17 -Wall -Wextra -pedantic -I"$src/include" \
        -fsyntax-only "$tmp/p.cc"
else
    echo "no C++ compiler: puna.h not checked as C++"
fi
for h in "$src"/src/*/*.h; do
    name=${h#"$src"/src/}
    [[ $name != *_tmpl.h ]] || continue # templates: a kernel tier includes them after the operations they are made of
    echo "#include \"$name\"" >"$tmp/h.c"
    check "$name" "${cc[@]}" -std=c11 -D_GNU_SOURCE -Wall -Wextra -I"$src/include" -I"$src/src" \
        -I"$src/third_party/stb" -fsyntax-only "$tmp/h.c"
done
echo "$seen headers, $bad wrong"
[ "$seen" -ge 10 ] && [ "$bad" -eq 0 ]
