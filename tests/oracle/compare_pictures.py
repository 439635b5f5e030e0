#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Picture files of every kind through `$PUNA encode` and through Pillow and transformers' image processor: pixel_values must be
equal bit for bit.  compare_pictures.py [--count N] [--seed S] [MODEL_DIR]"""
import argparse
import io
import os
import sys
import tempfile

import numpy as np
from PIL import Image
from transformers import MllamaImageProcessor

import pictures
import puna


def variants(rng, w, h):
    """(what, suffix, bytes)"""
    make = lambda mode: pictures.picture(rng, w, h, mode, noise=bool(rng.integers(2)))

    def enc(img, fmt, **kw):
        b = io.BytesIO()
        img.save(b, fmt, **kw)
        return b.getvalue()

    out = []
    for mode in ("RGB", "RGBA", "L", "LA", "1", "P"):
        out.append((f"png {mode}", "png", enc(make(mode), "PNG")))
    pal = make("P")
    out.append(("png P transparent", "png", enc(pal, "PNG", transparency=int(rng.integers(17)))))
    out.append(("png P tRNS", "png", enc(pal, "PNG", transparency=bytes(rng.integers(0, 256, 17).astype(np.uint8)))))
    out.append(("png P 4 bits", "png", enc(make("RGB").quantize(9), "PNG", bits=4)))
    rgb = make("RGB")
    out.append(("png RGB tRNS", "png", enc(rgb, "PNG", transparency=rgb.getpixel((w // 2, h // 2)))))
    grey = make("L")
    out.append(("png L tRNS", "png", enc(grey, "PNG", transparency=grey.getpixel((w // 2, h // 2)))))
    q = int(rng.integers(5, 100))
    for sub in (0, 1, 2):
        out.append((f"jpeg q{q} subsampling {sub}", "jpg", enc(make("RGB"), "JPEG", quality=q, subsampling=sub)))
    out.append(("jpeg progressive", "jpg", enc(make("RGB"), "JPEG", quality=q, progressive=True)))
    out.append(("jpeg optimised restart", "jpg", enc(make("RGB"), "JPEG", quality=q, optimize=True, restart_marker_blocks=3)))
    out.append(("jpeg grey", "jpg", enc(make("L"), "JPEG", quality=q)))
    out.append(("jpeg CMYK", "jpg", enc(make("RGB").convert("CMYK"), "JPEG", quality=q)))
    out.append(("webp lossless", "webp", enc(make("RGB"), "WEBP", lossless=True, exact=True)))
    out.append(("webp lossless alpha", "webp", enc(make("RGBA"), "WEBP", lossless=True, exact=True)))
    out.append(("webp lossy", "webp", enc(make("RGB"), "WEBP", quality=q)))
    out.append(("webp lossy alpha", "webp", enc(make("RGBA"), "WEBP", quality=q)))
    out.append(("gif", "gif", enc(make("P"), "GIF")))
    out.append(("gif transparent", "gif", enc(make("P"), "GIF", transparency=int(rng.integers(17)))))
    for mode in ("RGB", "L", "P", "1"):
        out.append((f"bmp {mode}", "bmp", enc(make(mode), "BMP")))
    out.append(("bmp RGBA", "bmp", enc(make("RGBA"), "BMP")))
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("model", nargs="?", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../data/tiny-b/model"))
    p.add_argument("--count", type=int, default=5)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--work", default="/tmp/oracle-pictures")
    a = p.parse_args()
    os.makedirs(a.work, exist_ok=True)
    proc = MllamaImageProcessor.from_pretrained(a.model)
    tile = proc.size["height"]
    rng = np.random.default_rng(a.seed)
    bad = total = 0
    for i in range(a.count):
        w, h = (int(v) for v in rng.integers(4, 12 * tile, 2)) if i % 3 else (int(v) for v in rng.integers(1, 40, 2))
        h += h in (1, 3)  # transformers takes such rows for channels
        for what, suffix, data in variants(rng, w, h):
            try:
                want = proc([[Image.open(io.BytesIO(data))]], return_tensors="np")
            except ValueError as e:
                if "must be > 0" not in str(e):
                    raise
                continue  # a side of zero pixels: transformers 4.49 has no lower bound
            total += 1
            path = os.path.join(a.work, f"{a.seed}-{i}-{what.replace(' ', '_')}.{suffix}")
            with open(path, "wb") as f:
                f.write(data)
            try:
                got = puna.encode(a.model, [path], more=("--no-features",))
                d = np.abs(got["pixel_values"][0] - want["pixel_values"][0, 0])
                n = int(want["num_tiles"][0][0])
                ok = d.max() == 0 and int(got["num_tiles"].reshape(-1)[0]) == n
                note = f"largest {d.max():.3g} (one level is 0.0146), {np.count_nonzero(d)} of {n * d[0].size}"
            except puna.Failed as e:
                ok, note = False, str(e)
            if ok:
                os.unlink(path)
            else:
                bad += 1
                print(f"FAIL {what} {w}x{h} {path}: {note}", flush=True)
    print(f"{bad} of {total} differ")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
