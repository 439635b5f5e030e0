# SPDX-License-Identifier: Apache-2.0
"""Pictures for tests: gradients, shapes and some noise, in the modes and file formats people have."""
import numpy as np
from PIL import Image


def picture(rng, w, h, mode="RGB", noise=True):
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    a = np.zeros((h, w, 4), np.float32)
    for c in range(4):
        f = rng.uniform(0.5, 6, 2) * np.pi / max(w, h)
        a[..., c] = 128 + 100 * np.sin(f[0] * x + f[1] * y + rng.uniform(0, 6))
    cx, cy, r = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.1, 0.5) * min(w, h)
    a[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = rng.uniform(0, 255, 4)
    if noise:
        a += rng.normal(0, 12, a.shape)
    img = Image.fromarray(np.clip(a, 0, 255).astype(np.uint8), "RGBA")
    if mode == "P":
        return img.convert("RGB").quantize(17)
    if mode == "1":
        return img.convert("1")
    return img.convert(mode)


def random_picture(rng, tile):
    """(PIL image as read back later, file suffix)"""
    mode = str(rng.choice(["RGB", "RGB", "RGB", "RGBA", "L", "P", "LA", "1"]))
    kind = int(rng.integers(4))
    if kind == 0:  # anything up to four tiles
        w, h = (int(v) for v in rng.integers(4, 4 * tile, 2))
    elif kind == 1:  # near a tile border
        w, h = (int(tile * rng.integers(1, 4) + rng.integers(-1, 2)) for _ in range(2))
    elif kind == 2:  # long and thin
        w, h = int(rng.choice([2, 4, 5])), int(rng.integers(20, 80))  # not 1 or 3: see reference.pictures
        if rng.integers(2):
            w, h = h, w
    else:  # larger than the canvas
        w, h = (int(v) for v in rng.integers(2 * tile, 9 * tile + 40, 2))
    suffix = "png"
    if mode in ("RGB", "L"):
        suffix = str(rng.choice(["png", "png", "bmp", "webp"]))
    return picture(rng, max(w, 1), max(h, 1), mode), suffix


def save(img, path):
    img.save(path, **({"lossless": True, "exact": True} if path.endswith(".webp") else {}))
