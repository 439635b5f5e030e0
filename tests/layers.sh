#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Who may include whom: the table of doc/ARCHITECTURE.md, checked on every #include "..." and on
# <puna.h>. Fails on a room that the table does not know, and when it saw nothing.
set -u
cd "${PUNA_SRCDIR:-.}" || exit 1

# room: the rooms and files it may include, besides its own
allowed() {
    case $1 in
        base) echo 'puna.h' ;;
        cpu | quant) echo 'base' ;;
        kern) echo 'cpu quant base' ;;
        simd/x86 | simd/arm) echo 'kern quant' ;;
        pool) echo 'base cpu' ;;
        file) echo 'base quant' ;;
        model) echo 'file kern pool quant base' ;;
        text) echo 'base file puna.h' ;;
        image) echo 'kern base stb' ;;
        session) echo 'model text image base puna.h' ;;
        convert) echo 'file text model kern pool quant base puna.h' ;;
        api) echo 'base cpu quant kern pool file model text image session convert puna.h' ;;
        cli | server) echo 'base puna.h' ;;
        *) return 1 ;;
    esac
}

bad=0 seen=0
for dir in src/*/ simd/*/; do
    dir=${dir%/}
    room=${dir#src/}
    if ! may=$(allowed "$room"); then
        echo "$dir: not in the table of rooms"
        bad=$((bad + 1))
        continue
    fi
    while IFS=: read -r file line text; do
        seen=$((seen + 1))
        inc=$(sed -E 's/^[^"<]*["<]([^">]*)[">].*$/\1/' <<<"$text")
        case $inc in
            config.h) continue ;;
            puna.h) target=puna.h ;;
            stb_image.h) target=stb ;;
            */*) target=${inc%%/*} ;;
            *) if [ -f "$dir/$inc" ]; then target=$room; else target="?"; fi ;;
        esac
        case " $room $may " in
            *" $target "*) ;;
            *)
                echo "$file:$line: $room may not include $inc (allowed: $may)"
                bad=$((bad + 1))
                ;;
        esac
    done < <(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*("|<puna\.h>)' -r "$dir" \
        --include='*.c' --include='*.h' --include='*.inc' -H)
done
echo "$seen includes, $bad wrong"
[ "$seen" -ge 50 ] && [ "$bad" -eq 0 ]
