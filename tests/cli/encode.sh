#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# puna encode: the reference's pixels bit for bit, its features, tiles as PNG that give the same pixels.
. "${PUNA_SRCDIR:-.}/tests/cli/lib.sh" || exit 1
out=$tmp/out.safetensors
pixels=$((4 * 3 * 56 * 56)) # of a picture
tile=$((17 * 480))          # features of a tile

same_as_golden() # CASE PICTURES TILES...: $out against the reference
{
    name=$1
    n=$2
    shift 2
    same "$name: what the file holds" "$(tool stcat list "$out" | tr '\n' ' ')" \
        "pixel_values F32 [$n,4,3,56,56] num_tiles I64 [$n] aspect_ratio_ids I64 [$n] vision_features F32 [$n,4,17,480] "
    same "$name: pixels" "$(tool stcat diff 0 "$out" pixel_values "$golden" "$name/pixel_values")" 0.000e+00
    same "$name: tiles" "$(tool stcat ints "$out" num_tiles)" "$*"
    at=0
    for k in "$@"; do
        tool stcat diff 1e-3 "$out" vision_features "$golden" "$name/vision_features" $((at * tile)) $((k * tile)) \
            >"$tmp/diff" 2>&1 || fail "$name: features: $(cat "$tmp/diff")"
        [ "$k" -eq 4 ] || tool stcat zeros "$out" vision_features $(((at + k) * tile)) $(((4 - k) * tile)) ||
            fail "$name: features of empty tiles are not zero"
        at=$((at + 4))
    done
}

i=0
while json "$data/cases.json" "cases.$i.name" >"$tmp/name" 2>/dev/null; do
    tiles=$(json "$data/cases.json" "cases.$i.num_tiles" 2>/dev/null) && {
        set --
        n=0
        while image=$(json "$data/cases.json" "cases.$i.images.$n" 2>/dev/null); do
            set -- "$@" -i "$images/$image.png"
            n=$((n + 1))
        done
        ok encode -m "$model" "$@" --precise -o "$out"
        # shellcheck disable=SC2086
        same_as_golden "$(cat "$tmp/name")" "$n" $tiles
        same "$(cat "$tmp/name"): ratio" "$(tool stcat ints "$out" aspect_ratio_ids)" \
            "$(json "$data/cases.json" "cases.$i.aspect_ratio_ids")"
        same "$(cat "$tmp/name"): lines" "$(wc -l <"$tmp/out")" "$n"
    }
    i=$((i + 1))
done
[ "$i" -eq 13 ] || fail "$i cases instead of 13"

ok encode -m "$model" -i "$images/one.png" --precise -o "$out"
for way in '' --full-tiles '-t 2'; do
    # shellcheck disable=SC2086
    ok encode -m "$model" -i "$images/one.png" $way -o "$tmp/way.safetensors"
    tool stcat diff 0.1 "$out" vision_features "$tmp/way.safetensors" vision_features >"$tmp/diff" 2>&1 ||
        fail "encode $way: $(cat "$tmp/diff")"
done

# a float tower is multiplied in int8 where the tier gains by that, and its features stay what they are
for type in F16 BF16 F32; do
    ok quantize "$src/models/demo/demo.gguf" "$tmp/demo-$type.gguf" --type Q8_0 --vision $type
    ok encode -m "$tmp/demo-$type.gguf" -i "$src/models/demo/example.png" --precise -o "$out"
    for way in '' '-t 2' '--full-tiles'; do
        # shellcheck disable=SC2086
        ok encode -m "$tmp/demo-$type.gguf" -i "$src/models/demo/example.png" $way -o "$tmp/way.safetensors"
        tool stcat cosine 0.9999 "$out" vision_features "$tmp/way.safetensors" vision_features >"$tmp/diff" 2>&1 ||
            fail "tower in $type $way: 1 - cosine $(cat "$tmp/diff")"
        echo "tower in $type $way: 1 - cosine $(cat "$tmp/diff")"
    done
done

# a tile of the model's own size comes back unchanged, so its PNG has the pixels that the model saw
ok encode -m "$model" -i "$images/wide.png" -i "$images/one.png" --png "$tmp/tiles" --no-features -o "$out"
same 'tiles written' "$(cd "$tmp/tiles" && echo *)" \
    'one-tile0.png wide-tile0.png wide-tile1.png wide-tile2.png wide-tile3.png'
same '--no-features' "$(tool stcat list "$out" | grep -c vision_features)" 0
ok encode -m "$model" -i "$images/one.png" --no-features -o "$tmp/a.safetensors"
ok encode -m "$model" -i "$tmp/tiles/one-tile0.png" --no-features -o "$tmp/b.safetensors"
cmp -s "$tmp/a.safetensors" "$tmp/b.safetensors" || fail 'the tile as PNG is another picture'
ok encode -m "$model" -i "$images/wide.png" --no-features -o "$tmp/a.safetensors"
for k in 0 1 2 3; do
    ok encode -m "$model" -i "$tmp/tiles/wide-tile$k.png" --no-features --json -o "$tmp/b$k.safetensors"
    same "JSON" "$(json "$tmp/out" pictures.0.tiles)" 1
done
tool stcat diff 0 "$tmp/a.safetensors" pixel_values "$tmp/b0.safetensors" pixel_values 0 $((pixels / 4)) >"$tmp/diff" ||
    fail "first tile: $(cat "$tmp/diff")"

mkdir "$tmp/other"
cp "$images/one.png" "$tmp/other/one.png"
wrong 2 "two pictures are called 'one'" encode -m "$model" -i "$images/one.png" -i "$tmp/other/one.png" --png "$tmp/t"
wrong 1 'text model' encode -m "$src/tests/data/tiny-llama/model" -i "$images/one.png" -o "$tmp/x"
[ ! -e "$tmp/x" ] || fail 'a call that failed left a file'
finish
