#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs into a folder of its own, checks what is there, then builds the example programs against
# the installed library as a user would, and runs them and the installed program.
set -u
src=${PUNA_SRCDIR:-.} build=${PUNA_BUILDDIR:-.}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAILED: $*"; exit 1; }
read -ra run <<<"${TEST_WRAPPER:-}"
read -ra cc <<<"${CC:-cc} ${CFLAGS:-}"

unset MAKEFLAGS MAKELEVEL MFLAGS
make -s -C "$build" install DESTDIR="$tmp" >"$tmp/log" 2>&1 || { cat "$tmp/log"; fail "make install"; }
prefix=$(sed -n 's/^prefix=//p' "$build/puna.pc")
root=$tmp$prefix
libdir=$tmp$(env -u PKG_CONFIG_SYSROOT_DIR pkg-config --variable=libdir "$build/puna.pc")
for f in bin/puna include/puna.h share/puna/models/demo.gguf share/man/man1/puna.1 \
    share/man/man1/puna-run.1 share/bash-completion/completions/puna; do
    [ -f "$root/$f" ] || fail "$f is not installed"
done
[ -f "$libdir/pkgconfig/puna.pc" ] || fail "puna.pc is not installed"
[ -z "$(find "$root/include" -name '*.h' ! -name puna.h)" ] || fail "an internal header is installed"

export PKG_CONFIG_SYSROOT_DIR=$tmp PKG_CONFIG_LIBDIR=$libdir/pkgconfig
[ "$(pkg-config --modversion puna)" = "$PUNA_VERSION" ] || fail "puna.pc has another version"
read -ra flags <<<"$(pkg-config --cflags --libs puna)"
if [ -e "$libdir/libpuna.so" ]; then
    # The library names what it needs itself: -lpuna is all that a program says.
    case " ${flags[*]} " in *openblas*) fail "puna.pc makes programs link to OpenBLAS: ${flags[*]}" ;; esac
else
    read -ra flags <<<"$(pkg-config --static --cflags --libs puna)"
fi
for p in ask logits; do
    "${cc[@]}" -std=c11 -Wall -Wextra "$src/doc/examples/$p.c" "${flags[@]}" -o "$tmp/$p" || fail "cc $p.c"
done

export LD_LIBRARY_PATH=$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
model=$root/share/puna/models/demo.gguf
"${run[@]}" "$tmp/logits" "$model" "Hello, world" >"$tmp/out" 2>"$tmp/err" || { cat "$tmp/err"; fail logits; }
[ "$(wc -l <"$tmp/out")" -ge 3 ] || { cat "$tmp/out"; fail "logits printed too little"; }
"${run[@]}" "$tmp/ask" "$model" "$src/tests/data/photo/cat.jpg" "What is this?" >"$tmp/out" 2>"$tmp/err" ||
    { cat "$tmp/err"; fail ask; }
grep -q 'tokens, first after' "$tmp/err" || { cat "$tmp/err"; fail "ask did not finish"; }
"${run[@]}" "$tmp/ask" "$tmp/none" "$src/tests/data/photo/cat.jpg" x 2>"$tmp/err" && fail "no model, but no error"
grep -q none "$tmp/err" || { cat "$tmp/err"; fail "the error does not name the model"; }
"${run[@]}" "$root/bin/puna" --version >"$tmp/out" || fail "puna --version"
# no model named: the installed one is found, also in a tree that was moved
"${run[@]}" "$root/bin/puna" info --json >"$tmp/info" || fail "puna info without a model"
grep -q "models/demo.gguf" "$tmp/info" || { cat "$tmp/info"; fail "puna info took another model"; }
grep -qx "puna $PUNA_VERSION" "$tmp/out" || { cat "$tmp/out"; fail "puna has another version"; }

# and everything can be taken back
make -s -C "$build" uninstall DESTDIR="$tmp" >"$tmp/log" 2>&1 || { cat "$tmp/log"; fail "make uninstall"; }
left=$(find "$root" -type f)
[ -z "$left" ] || fail "left behind by make uninstall: $left"
echo "installed, used and taken away"
