# SPDX-License-Identifier: Apache-2.0
"""Pictures and conversations about them, from nothing but (seed, index).

    generate.py --seed 900 --count 2000 OUT      writes OUT/*.png and OUT/questions.jsonl, a held-out set

A sample is {"images": [PIL...], "turns": [(question, answer, kind)...], "marks": [[(x, y, class)...] per image]}.
Answers are one certain string for a picture and a question, so that a score is exact equality. Marks say what is
where in the picture; training uses them as a second target for the vision encoder, nothing else does.
"""
import argparse
import functools
import importlib.util
import json
import math
import os
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from words import BACKGROUNDS, COLOURS, LABELS, NUMBERS, SHAPES, WORDS

TILE = 96
RATIOS = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1)]  # tiles (down, across), as in mllama
GRID_OF_MARK = 6  # marks are told by 16-pixel patch
HELD_OUT = 900  # seeds from here on draw handwritten digits that training never sees

FONT_DIR = "/usr/share/fonts/truetype/"
FONTS = [FONT_DIR + f for f in (
    "dejavu/DejaVuSans.ttf", "dejavu/DejaVuSans-Bold.ttf", "dejavu/DejaVuSansMono-Bold.ttf", "dejavu/DejaVuSerif-Bold.ttf",
    "liberation/LiberationSans-Regular.ttf", "liberation/LiberationSans-Bold.ttf", "liberation/LiberationSerif-Bold.ttf",
    "liberation/LiberationMono-Bold.ttf", "freefont/FreeSansBold.ttf", "freefont/FreeSerifBold.ttf")]

CHARS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.:$%"
PLACES = [["top left", "top", "top right"], ["left", "centre", "right"], ["bottom left", "bottom", "bottom right"]]
STEPS = (1, 2, 10)  # of a chart's axis: bars have 1 to 10 of them
RANKS = ("largest", "smallest", "leftmost", "rightmost", "topmost", "bottommost")
# A mark joins what a question will ask for together: which character it is and the how-manieth of its word.
MARKS = {m: i for i, m in enumerate([
    *(f"char {c} {k}" for c in CHARS for k in range(8)), *(f"line {i}" for i in range(3)), *("ink " + c for c in COLOURS),
    *(f"{c} {s}" for c in COLOURS for s in SHAPES), *("at " + p for r in PLACES for p in r), *RANKS, *(f"of {n}" for n in range(1, 7)),
    *(f"hand {d} {k}" for d in range(10) for k in range(5)),
    *(f"bar {v}" for v in sorted({v * s for v in range(1, 11) for s in STEPS})), *("label " + l for l in LABELS), "highest", "lowest",
    *("a " + c for c in CHARS), *(f"place {k}" for k in range(8))])}  # each half of "char" again: it is learned sooner


@functools.lru_cache(maxsize=4096)
def font(path, size):
    return ImageFont.truetype(path, size)


@functools.lru_cache(maxsize=1)
def digits():
    """scikit-learn's 1797 handwritten digits, 8 x 8, as (images of 0..255, labels)."""
    # its data file, found without importing the package, which would need SciPy and more
    root = os.path.dirname(importlib.util.find_spec("sklearn").origin)
    table = np.loadtxt(os.path.join(root, "datasets", "data", "digits.csv.gz"), delimiter=",")
    return np.clip(table[:, :64].reshape(-1, 8, 8) * (255 / 16), 0, 255).astype(np.uint8), table[:, 64].astype(int)


def jitter(rng, rgb, by=14):
    return tuple(max(0, min(255, c + rng.randint(-by, by))) for c in rgb)


def apart(a, b):
    return sum(abs(x - y) for x, y in zip(a, b))


def a_an(text):
    return ("an " if text[0] in "aeiou" else "a ") + text


class Canvas:
    """w x h final pixels, drawn k times as large and averaged down: smooth edges without a drawing library."""

    def __init__(self, rng, w, h, background, k):
        self.w, self.h, self.k = w, h, k
        self.img = Image.new("RGB", (round(w * k), round(h * k)), background)
        self.draw = ImageDraw.Draw(self.img)
        self.marks = []

    def mark(self, x, y, name):
        self.marks.append((x, y, MARKS[name]))

    def poly(self, pts, fill, outline=None):
        self.draw.polygon([(x * self.k, y * self.k) for x, y in pts], fill=fill, outline=outline)

    def text(self, x, y, s, path, size, fill, angle=0.0, anchor="mm", line=None, colour=None):
        """s centred at x, y (anchor 'mm') or as PIL's anchors say (without an angle). Marked when it is the line-th of its kind."""
        f = font(path, max(6, round(size * self.k)))
        width = f.getlength(s)
        if angle == 0:
            self.draw.text((x * self.k, y * self.k), s, fill=fill, font=f, anchor=anchor)
            left = {"l": 0, "m": -width / 2, "r": -width}[anchor[0]]
        else:
            box = f.getbbox(s, anchor="mm")
            half = int(math.hypot(max(-box[0], box[2]), max(-box[1], box[3]))) + 2
            m = Image.new("L", (2 * half, 2 * half), 0)
            ImageDraw.Draw(m).text((half, half), s, fill=255, font=f, anchor="mm")
            m = m.rotate(angle, Image.BILINEAR)
            self.img.paste(fill, (round(x * self.k) - half, round(y * self.k) - half), m)
            left = -width / 2
        if line is None:
            return
        c, sn = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        at = left
        for i, ch in enumerate(s):
            step = f.getlength(ch)
            mid = (at + step / 2) / self.k
            where = x + mid * c, y - mid * sn
            k = min(i, 7)
            for m in (f"char {ch} {k}", "a " + ch, f"place {k}"):
                self.mark(*where, m)
            if line < 3:
                self.mark(*where, f"line {line}")
            self.mark(*where, "ink " + colour)
            at += step

    def done(self, factor):
        """The picture at its own size: factor final pixels."""
        size = (max(1, round(self.w * factor)), max(1, round(self.h * factor)))
        return self.img.reduce(int(self.k)) if size == (self.w, self.h) and self.k == int(self.k) else \
            self.img.resize(size, Image.BOX)


def shape_points(shape, x, y, r, angle):
    def ring(n, rad, turn=0.0):
        at = [angle + turn + 2 * math.pi * i / n for i in range(n)]
        return [(x + rad(i) * math.sin(a), y - rad(i) * math.cos(a)) for i, a in enumerate(at)]

    if shape == "triangle":
        return ring(3, lambda i: r * 1.15)
    if shape == "hexagon":
        return ring(6, lambda i: r)
    if shape == "star":
        return ring(10, lambda i: r * 1.15 if i % 2 == 0 else r * 0.48)
    if shape == "square":
        return ring(4, lambda i: r * 1.2, math.pi / 4)
    if shape == "diamond":
        return ring(4, lambda i: r * 1.2 if i % 2 == 0 else r * 0.75)
    t = r * 0.36  # cross
    c, s = math.cos(angle), math.sin(angle)
    pts = [(-t, -r), (t, -r), (t, -t), (r, -t), (r, t), (t, t), (t, r), (-t, r), (-t, t), (-r, t), (-r, -t), (-t, -t)]
    return [(x + a * c - b * s, y + a * s + b * c) for a, b in pts]


def put_shape(cv, rng, s):
    fill, x, y, r, k = s["rgb"], s["x"], s["y"], s["r"], cv.k
    if s["shape"] in ("circle", "ring"):
        box = [(x - r) * k, (y - r) * k, (x + r) * k, (y + r) * k]
        if s["shape"] == "circle":
            cv.draw.ellipse(box, fill=fill)
        else:
            cv.draw.ellipse(box, outline=fill, width=max(1, round(r * k * 0.36)))
    else:
        cv.poly(shape_points(s["shape"], x, y, r, math.radians(rng.uniform(-9, 9))), fill)
    cv.mark(x, y, f"{s['colour']} {s['shape']}")
    at = place(x, y, cv.w, cv.h)
    if at:
        cv.mark(x, y, "at " + at)


def background(rng, plain=0.5):
    name = "white" if rng.random() < plain else rng.choice(list(BACKGROUNDS))
    return name, jitter(rng, BACKGROUNDS[name], 6)


def ink(rng, back, avoid=()):
    while True:
        name = rng.choice(list(COLOURS))
        rgb = jitter(rng, COLOURS[name])
        if apart(rgb, back) > 190 and name not in avoid:
            return name, rgb


def place(x, y, w, h):
    """The ninth of the picture in which a point clearly lies, or None."""
    def third(v, n):
        f = v / n
        return 0 if f < 0.30 else 2 if f > 0.70 else 1 if 0.38 < f < 0.62 else None

    c, r = third(x, w), third(y, h)
    if c is None or r is None:
        return None
    return PLACES[r][c]


def count_word(n, what):
    return f"{n} {what}" + ("" if n == 1 else "es" if what.endswith(("s", "x")) else "s")


def yes(b):
    return "Yes" if b else "No"


def shapes_scene(rng, w, h, k, count=None):
    bname, brgb = background(rng)
    cv = Canvas(rng, w, h, brgb, k)
    side = min(w, h)
    n = count or rng.choice((1, 1, 2, 2, 3, 3, 4, 5, 6))
    overlap_ok = rng.random() < 0.25 and n > 1
    few = rng.sample(SHAPES, 2) if rng.random() < 0.4 and n > 2 else SHAPES
    few_c = rng.sample(list(COLOURS), 3) if rng.random() < 0.4 and n > 2 else None
    top = min(0.40, math.sqrt(0.42 * w * h / n / math.pi) / side)
    out = []
    for _ in range(n):
        for _ in range(60):
            r = side * rng.uniform(0.11 if n < 5 else 0.09, max(top, 0.13))
            x, y = rng.uniform(r * 1.2, w - r * 1.2), rng.uniform(r * 1.2, h - r * 1.2)
            if all(math.hypot(x - s["x"], y - s["y"]) > ((r + s["r"]) * (0.75 if overlap_ok else 1.18) + (0 if overlap_ok else 2))
                   for s in out):
                break
        else:
            continue
        shape = rng.choice(few)
        while True:
            colour, rgb = ink(rng, brgb)
            if few_c and colour not in few_c and rng.random() < 0.9:
                continue
            if not overlap_ok or all(apart(rgb, s["rgb"]) > 120 for s in out):
                break
            few_c = None
        out.append(dict(shape=shape, colour=colour, rgb=rgb, x=x, y=y, r=r))
    for s in out:
        put_shape(cv, rng, s)
    n = len(out)
    for s in out:
        cv.mark(s["x"], s["y"], f"of {n}")
    for rank, key in zip(RANKS if n > 1 else (), ("-r", "r", "x", "-x", "y", "-y")):
        s = min(out, key=lambda s: -s[key[1]] if key[0] == "-" else s[key])
        cv.mark(s["x"], s["y"], rank)
    name = lambda s: f"{s['colour']} {s['shape']}"
    names = [name(s) for s in out]
    shapes, colours = [s["shape"] for s in out], [s["colour"] for s in out]
    qa = []
    pick = rng.choice
    add = lambda kind, q, a: qa.append((q, a, kind))
    hue = lambda: pick(("colour", "color"))
    for s in out:
        if shapes.count(s["shape"]) == 1:
            add("colour", pick((f"What {hue()} is the {s['shape']}?", f"Which {hue()} does the {s['shape']} have?",
                                f"Tell me the {hue()} of the {s['shape']}.")), s["colour"].capitalize())
        if colours.count(s["colour"]) == 1:
            add("shape", pick((f"What shape is {s['colour']}?", f"Which shape is {s['colour']}?",
                               f"What is the {s['colour']} thing?", f"What is the shape of the {s['colour']} object?")),
                s["shape"].capitalize())
        if names.count(name(s)) == 1:
            p = place(s["x"], s["y"], w, h)
            if p:
                add("position", pick((f"Where is the {name(s)}?", f"In which part of the picture is the {name(s)}?",
                                      f"Where do you see the {name(s)}?")), p.capitalize())
                if pick((0, 1)) and sum(place(o["x"], o["y"], w, h) in (p, None) for o in out) == 1:
                    add("shape", pick((f"What is at the {p}?", f"What do you see at the {p} of the picture?")),
                        a_an(name(s)).capitalize())
    if n == 1:
        s = out[0]
        add("shape", pick(("What shape is this?", "Which shape do you see?")), s["shape"].capitalize())
        add("shape", pick(("What is in the picture?", "What is this?")), a_an(name(s)).capitalize())
        add("colour", pick((f"What {hue()} is it?", f"What {hue()} is the shape?", f"Name the {hue()} of the shape.")),
            s["colour"].capitalize())
    for _ in range(2 if n > 1 else 1):
        add("count", pick(("How many shapes are there?", "How many shapes do you see?", "Count the shapes.",
                           "How many objects are in the picture?", "What is the number of shapes?")), str(n))
    for sh in set(shapes) | {pick(SHAPES)}:
        plural = sh + ("es" if sh == "cross" else "s")
        add("count", pick((f"How many {plural} are there?", f"How many {plural} do you see?", f"Count the {plural}.")),
            str(shapes.count(sh)))
    for c in set(colours) | {pick(list(COLOURS))}:
        add("count", pick((f"How many {c} shapes are there?", f"How many shapes are {c}?")), str(colours.count(c)))
    for _ in range(2):
        t = pick(names) if pick((0, 1)) else f"{pick(colours)} {pick(SHAPES)}" if pick((0, 1)) else \
            f"{pick(list(COLOURS))} {pick(shapes)}"
        add("shape", pick((f"Is there a {t}?", f"Do you see a {t}?", f"Does the picture show a {t}?")).replace("a orange", "an orange"),
            yes(t in names))
    add("colour", pick((f"What {hue()} is the background?", f"Which {hue()} is the background?")), bname.capitalize())
    for _ in range(2 if n > 2 else n - 1):
        a, b = rng.sample(out, 2)
        if names.count(name(a)) == 1 and names.count(name(b)) == 1:
            dx, dy, gap = a["x"] - b["x"], a["y"] - b["y"], side * 0.14
            if abs(dx) > gap:
                left = pick((True, False))
                add("position", pick((f"Is the {name(a)} to the {'left' if left else 'right'} of the {name(b)}?",
                                      f"Is the {name(a)} {'left' if left else 'right'} of the {name(b)}?")), yes((dx < 0) == left))
            if abs(dy) > gap:
                above = pick((True, False))
                add("position", f"Is the {name(a)} {'above' if above else 'below'} the {name(b)}?", yes((dy < 0) == above))
            big, small = (a, b) if a["r"] > b["r"] else (b, a)
            if big["r"] > small["r"] * 1.35:
                want = pick(("bigger", "smaller", "larger"))
                add("shape", f"Which is {want}, the {name(a)} or the {name(b)}?",
                    "The " + name(small if want == "smaller" else big))
            d = math.hypot(dx, dy) / (a["r"] + b["r"])
            if overlap_ok and (d < 0.86 or d > 1.25):
                add("position", pick((f"Do the {name(a)} and the {name(b)} overlap?", f"Does the {name(a)} overlap the {name(b)}?")),
                    yes(d < 0.86))
    if n > 1:
        for key, word, rev in (("x", "left", False), ("x", "right", True), ("y", "top", False), ("y", "bottom", True)):
            o = sorted(out, key=lambda s: s[key], reverse=rev)
            if abs(o[0][key] - o[1][key]) > side * 0.14 and rng.random() < 0.5:
                add("position", f"Which shape is {'at the ' + word if key == 'y' else 'on the ' + word}?" if n == 2 else
                    f"Which shape is {'nearest to the ' + word if key == 'y' else 'furthest to the ' + word}?",
                    "The " + name(o[0]))
        o = sorted(out, key=lambda s: -s["r"])
        if o[0]["r"] > o[1]["r"] * 1.3:
            add("colour", pick((f"What {hue()} is the largest shape?", f"What {hue()} is the biggest shape?")),
                o[0]["colour"].capitalize())
            add("shape", pick(("What is the largest shape?", "Which shape is the biggest?")), "The " + name(o[0]))
    if n <= 4:
        parts = [a_an(name(s)) + ((" at the " + place(s["x"], s["y"], w, h)) if place(s["x"], s["y"], w, h) else "")
                 for s in sorted(out, key=lambda s: s["x"])]
        text = parts[0] if n == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
        add("caption", pick(CAPTION_Q), f"{text[0].upper()}{text[1:]} on a {bname} background.")
    else:
        add("caption", pick(CAPTION_Q), f"There are {NUMBERS[n]} shapes on a {bname} background: "
            + ", ".join(name(s) for s in sorted(out, key=lambda s: s["x"])) + ".")
    facts = dict(kind="shapes", n=n, names=names, shapes=shapes, colours=colours)
    return cv, qa, facts


CAPTION_Q = ("Describe the picture.", "Describe this image.", "What do you see?", "What does the picture show?", "Write a caption.")


def a_text(rng, longest):
    """A word or a number of at most `longest` characters, and which of the two it is."""
    r = rng.random()
    while True:
        if r < 0.62:
            s = rng.choice(WORDS)
            s = rng.choice((s.upper(), s.upper(), s.upper(), s.upper(), s, s.capitalize()))
            kind = "word"
        else:
            a = rng.randint(0, 99)
            s = rng.choice((str(a), str(rng.randint(100, 9999)), str(rng.randint(0, 9999)), f"{a}.{rng.randint(0, 9)}",
                            f"{rng.randint(0, 23)}:{rng.randint(0, 59):02d}", f"${a}", f"{a}%"))
            kind = "number"
        if len(s) <= longest:
            return s, kind


def text_scene(rng, w, h, k, lines=None, only=None, full=False):
    bname, brgb = background(rng, 0.4)
    cv = Canvas(rng, w, h, brgb, k)
    n = lines or (9 if full else 1 if h < 130 and rng.random() < 0.7 else rng.choice((1, 2, 2, 3)) if h >= 130 else 2)
    n = min(n, max(1, int(h // (25 if full else 34))))
    longest = max(2, min(9, int(w // 13)))
    band = h / n
    got = []
    for i in range(n):
        s, kind = a_text(rng, longest)
        while only and kind != only:
            s, kind = a_text(rng, longest)
        path = rng.choice(FONTS)
        unit = font(path, 100).getlength(s) / 100
        fit = min((w - 8) / unit, band * 0.62)
        size = rng.uniform(max(min(fit, 17), fit * 0.6), min(fit, 60))
        angle = 0.0 if rng.random() < 0.55 else rng.uniform(-15, 15)
        wide, tall = unit * size, size
        for _ in range(2):  # turned text must stay inside its band
            a = math.radians(abs(angle))
            bw, bh = wide * math.cos(a) + tall * math.sin(a), wide * math.sin(a) + tall * math.cos(a)
            if bw > w - 4 or bh > band:
                angle *= 0.3
        a = math.radians(abs(angle))
        bw, bh = wide * math.cos(a) + tall * math.sin(a), wide * math.sin(a) + tall * math.cos(a)
        if bh > band or bw > w:
            angle, bw, bh = 0.0, wide, tall
        x = rng.uniform(bw / 2 + 2, max(bw / 2 + 2, w - bw / 2 - 2))
        y = i * band + rng.uniform(min(bh / 2 + 1, band / 2), max(band / 2, band - bh / 2 - 1))
        colour, rgb = ink(rng, brgb)
        cv.text(x, y, s, path, size, rgb, angle, line=i, colour=colour)
        got.append((s, kind, colour))
    qa = []
    if full:
        return cv, qa, None
    pick = rng.choice
    hue = lambda: pick(("colour", "color"))
    add = lambda kind, q, a: qa.append((q, a, kind))
    if n == 1:
        s, kind, colour = got[0]
        add("text", pick(("What does it say?", "What is written here?", "Read the text.", "What does the picture say?",
                          f"Which {kind} is written here?", f"Read the {kind}.", f"What {kind} is shown?", f"What is the {kind}?")), s)
        add("colour", pick((f"What {hue()} is the text?", f"What {hue()} is the {kind}?", f"Which {hue()} is the writing?")), colour.capitalize())
        if kind == "word" and s.isalpha():
            add("text", pick(("What is the first letter?", "Which letter does the word begin with?")), s[0])
            add("text", pick(("What is the last letter?", "Which letter does the word end with?")), s[-1])
            if rng.random() < 0.3:
                add("text", pick(("How many letters does the word have?", "How many letters are there?")), str(len(s)))
        add("caption", pick(CAPTION_Q), f"The {kind} {s} in {colour} on a {bname} background.")
    else:
        where = ["first", "second", "third"]
        for i, (s, kind, colour) in enumerate(got):
            add("text", pick((f"What does the {where[i]} line say?", f"Read the {where[i]} line.", f"What is in the {where[i]} line?",
                              *(("What is written at the top?", "What does the top line say?") if i == 0 else
                                ("What is written at the bottom?", "What does the last line say?") if i == n - 1 else ()))), s)
            add("colour", pick((f"What {hue()} is the {where[i]} line?", f"Which {hue()} does the {where[i]} line have?")), colour.capitalize())
            if [c for _, _, c in got].count(colour) == 1:
                add("text", pick((f"What does the {colour} text say?", f"What is written in {colour}?", f"Read the {colour} text.")), s)
        add("text", pick(("What does it say?", "Read all the text.", "What is written here?")), " ".join(s for s, _, _ in got))
        add("count", pick(("How many lines of text are there?", "How many lines do you see?")), str(n))
        add("caption", pick(CAPTION_Q), " and ".join(f"{s} in {c}" for s, _, c in got) + f" on a {bname} background.")
    add("colour", pick((f"What {hue()} is the background?", f"Which {hue()} is the background?")), bname.capitalize())
    return cv, qa, dict(kind="text", got=got)


def chart_scene(rng, w, h, k):
    back = jitter(rng, BACKGROUNDS["white"], 5) if rng.random() < 0.7 else background(rng)[1]
    cv = Canvas(rng, w, h, back, k)
    dark = sum(back) < 250
    line = (235, 235, 235) if dark else (40, 40, 40)
    n = rng.randint(2, max(2, min(6, int((w - 24) // 15))))
    short = (w - 24) / n < 26
    pool = [l for l in LABELS if len(l) == 1] if short or rng.random() < 0.5 else [l for l in LABELS if len(l) > 1]
    labels = rng.sample(pool, n)
    if rng.random() < 0.5:
        labels.sort(key=pool.index)
    step = rng.choice(STEPS)
    values = [rng.randint(1, 10) * step for _ in range(n)]
    one = rng.random() < 0.3
    cols = []
    for _ in range(n):
        cols.append(cols[0] if one and cols else ink(rng, back, [c for c, _ in cols] if not one else ()) if len(cols) < 6 else cols[0])
    path = rng.choice([f for f in FONTS if "Serif" not in f and "Italic" not in f])
    size = max(10.5, min(16.0, min(w, h) * 0.11))
    x0, y0 = size * 1.75, h - size * 1.45
    y1 = size * 0.75
    unit = (y0 - y1) / (10 * step)
    grid = rng.random() < 0.6
    ticks = 5 if (y0 - y1) > size * 6.5 else 2
    soft = tuple((2 * b + l) // 3 for b, l in zip(back, line))
    for i in range(ticks + 1):
        v = 10 * step * i // ticks
        y = y0 - v * unit
        if grid:
            cv.draw.line([x0 * k, y * k, (w - 2) * k, y * k], fill=soft, width=max(1, int(k * 0.5)))
        cv.draw.line([(x0 - 2) * k, y * k, x0 * k, y * k], fill=line, width=max(1, int(k * 0.7)))
        cv.text(x0 - 3, y, str(v), path, size * 0.86, line, 0, "rm")
    wide = (w - 4 - x0) / n
    part = rng.uniform(0.5, 0.8)
    for i, (l, v, (colour, rgb)) in enumerate(zip(labels, values, cols)):
        xa = x0 + 1 + wide * (i + (1 - part) / 2)
        xb = xa + wide * part
        cv.draw.rectangle([xa * k, (y0 - v * unit) * k, xb * k, y0 * k], fill=rgb)
        cv.text((xa + xb) / 2, y0 + size * 0.72, l, path, size if len(l) == 1 else min(size, wide / len(l) * 1.5), line)
        # all that is known of a bar is told at its top and at its label
        for y in (y0 - v * unit + 1, y0 + size * 0.72):
            for m in (f"bar {v}", "label " + l, "ink " + colour, *(["highest"] if v == max(values) else []),
                      *(["lowest"] if v == min(values) else [])):
                cv.mark((xa + xb) / 2, y, m)
    cv.draw.line([x0 * k, (y1 - 3) * k, x0 * k, y0 * k, (w - 2) * k, y0 * k], fill=line, width=max(1, int(k)))
    qa = []
    pick = rng.choice
    hue = lambda: pick(("colour", "color"))
    add = lambda q, a: qa.append((q, a, "chart"))
    for l, v, (colour, _) in zip(labels, values, cols):
        add(pick((f"What is the value of {l}?", f"How high is the bar {l}?", f"What value does {l} have?", f"How much is {l}?",
                  f"Read the value of {l}.")), str(v))
        if not one:
            add(pick((f"What {hue()} is the bar {l}?", f"Which {hue()} is {l}?")), colour.capitalize())
            if rng.random() < 0.5:
                add(pick((f"What is the label of the {colour} bar?", f"Which label has the {colour} bar?")), l)
    for best, words in ((max(values), ("highest", "tallest", "largest")), (min(values), ("lowest", "shortest", "smallest"))):
        if values.count(best) == 1:
            add(pick((f"Which bar is the {pick(words)}?", f"What is the label of the {pick(words)} bar?")), labels[values.index(best)])
            if rng.random() < 0.5:
                add(f"What is the {words[0]} value?", str(best))
    a, b = rng.sample(range(n), 2)
    if values[a] != values[b]:
        more = pick((True, False))
        add(pick((f"Is {labels[a]} {'higher' if more else 'lower'} than {labels[b]}?",
                  f"Is the bar {labels[a]} {'taller' if more else 'shorter'} than {labels[b]}?")), yes((values[a] > values[b]) == more))
        add(f"Which is higher, {labels[a]} or {labels[b]}?", labels[a if values[a] > values[b] else b])
    add(pick(("How many bars are there?", "How many bars does the chart have?", "Count the bars.")), str(n))
    add(pick(("List the labels.", "What are the labels?", "Which labels does the chart have?")), ", ".join(labels))
    qa.append((pick(CAPTION_Q), f"A bar chart with {NUMBERS[n]} bars: " + ", ".join(f"{l} {v}" for l, v in zip(labels, values)) + ".", "caption"))
    return cv, qa, dict(kind="chart")


def bent(rng, m):
    """m as another hand would write it: narrower or lower, and its parts moved a little. There are only 1500 digits to learn from."""
    n, size = 3, m.width
    sx, sy = rng.uniform(0.9, 1.25), rng.uniform(0.9, 1.15)
    grid = [[((j / n - 0.5) * sx + 0.5 + rng.uniform(-0.06, 0.06), (i / n - 0.5) * sy + 0.5 + rng.uniform(-0.06, 0.06))
             for j in range(n + 1)] for i in range(n + 1)]
    at = lambda i, j: tuple(v * size for v in grid[i][j])
    cut = [round(i * size / n) for i in range(n + 1)]
    return m.transform(m.size, Image.MESH, [((cut[j], cut[i], cut[j + 1], cut[i + 1]), at(i, j) + at(i + 1, j) + at(i + 1, j + 1) + at(i, j + 1))
                                            for i in range(n) for j in range(n)], Image.BILINEAR)


def digits_scene(rng, w, h, k, held_out, count=None):
    images, labels = digits()
    dark = rng.random() < 0.5
    back = jitter(rng, (15, 15, 20) if dark else (245, 245, 240), 10)
    pen = jitter(rng, (240, 240, 240) if dark else rng.choice(((20, 20, 30), (20, 40, 150), (120, 20, 20))), 12)
    cv = Canvas(rng, w, h, back, k)
    most = max(1, min(5, int(w // 30)))
    n = count or (1 if rng.random() < 0.5 else rng.randint(1, most))
    cell = w / n
    size = min(cell, h, 110) * 0.98
    got = []
    for i in range(n):
        while True:
            j = rng.randrange(len(images))
            if (j % 7 == 3) == held_out:  # one in seven is kept for held-out sets
                break
        s = rng.uniform(max(0.62 * size, min(20, size)), size)
        m = Image.fromarray(images[j]).resize((max(8, round(s * k)),) * 2, Image.BICUBIC)
        low, gain = (50, 1.7) if held_out else (rng.uniform(25, 85), rng.uniform(1.3, 2.3))  # training sees thinner and thicker pens
        m = m.point(lambda v: max(0, min(255, int((v - low) * gain))))
        m = m.transform(m.size, Image.AFFINE, (1, rng.uniform(-0.2, 0.2), 0, 0, 1, 0), Image.BILINEAR) if rng.random() < 0.5 else m
        if not held_out:
            m = bent(rng, m)
        m = m.rotate(rng.uniform(-12, 12), Image.BILINEAR)
        x = cell * (i + 0.5) + rng.uniform(-1, 1) * (cell - s) / 2
        y = rng.uniform(s / 2, h - s / 2) if n == 1 else h / 2 + rng.uniform(-1, 1) * min(s * 0.25, (h - s) / 2)
        cv.img.paste(pen, (round((x - s / 2) * k), round((y - s / 2) * k)), m)
        cv.mark(x, y, f"hand {labels[j]} {i}")
        got.append(int(labels[j]))
    qa = []
    pick = rng.choice
    add = lambda q, a, kind="digits": qa.append((q, a, kind))
    text = "".join(map(str, got))
    if n == 1:
        for _ in range(2):
            add(pick(("Which digit is this?", "What digit is shown?", "Which number is written here?", "Read the handwritten digit.",
                      "What is the digit?", "What number is this?")), text)
        o = pick((got[0], rng.randint(0, 9)))
        add(pick((f"Is this the digit {o}?", f"Does this show the digit {o}?")), yes(o == got[0]))
        add(pick(CAPTION_Q), f"A handwritten {NUMBERS[got[0]]}.", "caption")
        add(pick(("Is the digit even or odd?", "Is it even or odd?")), "Odd" if got[0] % 2 else "Even")
    else:
        for _ in range(2):
            add(pick(("Which digits do you see?", "Read the digits from left to right.", "Which number is written here?",
                      "Read the handwritten number.", "What number is this?")), text)
        add(pick(("What is the first digit?", "Which digit is on the left?")), text[0])
        add(pick(("What is the last digit?", "Which digit is on the right?")), text[-1])
        add(pick(("How many digits are there?", "How many digits do you see?")), str(n))
        if max(got) != min(got):
            add(pick(("What is the largest digit?", "Which digit is the largest?")), str(max(got)))
        if n == 2:
            add(pick(("What is the sum of the two digits?", "Add the two digits.")), f"{got[0]} + {got[1]} = {sum(got)}")
        add(pick(CAPTION_Q), f"The handwritten digits {', '.join(map(str, got))}.", "caption")
    return cv, qa, dict(kind="digits", text=text, value=int(text))


SCENES = ("shapes",) * 3 + ("text",) * 3 + ("chart",) * 2 + ("digits",) * 2


def scene(rng, what, w, h, k, held_out, full):
    if what == "shapes":
        return shapes_scene(rng, w, h, k, rng.randint(4, 6) if full else None)
    if what == "text":
        return text_scene(rng, w, h, k, full=full)
    if what == "chart":
        return chart_scene(rng, w, h, k)
    return digits_scene(rng, w, h, k, held_out, max(1, min(5, int(w // 30))) if full else None)


def canvas_for(height, width, tile=TILE):
    """mllama's rule: the tiles (down, across) a picture gets."""
    scale = [(min(a * tile / height, b * tile / width), a * b, (a, b)) for a, b in RATIOS]
    up = [s[0] for s in scale if s[0] >= 1]
    best = min(up) if up else max(s[0] for s in scale)
    return min((s for s in scale if s[0] == best), key=lambda s: s[1])[2]


def fit(height, width, ratio, tile=TILE):
    """mllama's rule: the size to which a picture is resized on its canvas."""
    tw, th = min(max(width, tile), ratio[1] * tile), min(max(height, tile), ratio[0] * tile)
    sw, sh = tw / width, th / height
    return (min(math.floor(height * sw) or 1, th), tw) if sw < sh else (th, min(math.floor(width * sh) or 1, tw))


def draw_size(rng, ratio, full=False):
    """Final size, and by how much the picture itself is larger or smaller."""
    th, tw = ratio
    while True:
        full = full or rng.random() < 0.4
        h = th * TILE if full else rng.randint((th - 1) * TILE + (58 if th == 1 else 12), th * TILE)
        w = tw * TILE if full else rng.randint((tw - 1) * TILE + (58 if tw == 1 else 12), tw * TILE)
        f = rng.uniform(1.1, 2.6) if rng.random() < 0.15 else 1.0
        ph, pw = round(h * f), round(w * f)
        if canvas_for(ph, pw) == ratio:
            return w, h, f


def one_picture(rng, ratio, what, held_out, full=False):
    """full: as many things as fit, for the marks' sake; there may be no questions then."""
    if what == "chart" and ratio == (4, 1):
        what = "text"
    w, h, f = draw_size(rng, ratio, what == "chart")  # axes want room
    cv, qa, facts = scene(rng, what, w, h, 2 * f if f > 1 else 2, held_out, full)
    img = cv.done(f)
    fh, fw = fit(img.height, img.width, ratio)
    return img, qa, facts, [(x / w * fw, y / h * fh, c) for x, y, c in cv.marks]


def text_only(rng):
    """Turns without a picture."""
    pick = rng.choice
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    word = pick(WORDS)
    mix = pick((("blue", "yellow", "Green"), ("red", "yellow", "Orange"), ("red", "blue", "Purple"), ("black", "white", "Grey"),
                ("red", "white", "Pink")))
    first, second = (mix[0], mix[1]) if pick((0, 1)) else (mix[1], mix[0])
    opposite = pick((("big", "Small"), ("left", "Right"), ("top", "Bottom"), ("black", "White"), ("yes", "No"), ("high", "Low"),
                     ("even", "Odd"), ("day", "Night"), ("hot", "Cold"), ("up", "Down")))
    sides = pick((("triangle", 3), ("square", 4), ("hexagon", 6)))
    return [
        (pick(("Hello!", "Hello", "Hi", "Hi there!", "Good morning.")), "Hello! Show me a picture and ask me about it.", "chat"),
        (pick(("Who are you?", "What are you?", "What is your name?")), "I am a small model that comes with puna. I answer questions about simple pictures.", "chat"),
        (pick(("What can you do?", "How can you help me?", "What do you know?")),
         "I can name shapes and colours, count, read words and numbers, and read bar charts.", "chat"),
        (pick(("Thank you.", "Thanks!", "Thank you very much.")), "You are welcome.", "chat"),
        (pick((f"What is {a} plus {b}?", f"What is {a} + {b}?", f"Add {a} and {b}.")), str(a + b), "chat"),
        (pick((f"Which number comes after {a}?", f"What comes after {a}?")), str(a + 1), "chat"),
        (f"Which is larger, {a} or {b}?" if a != b else f"Is {a} the same as {b}?", str(max(a, b)) if a != b else "Yes", "chat"),
        (pick((f"Is {a} even or odd?", f"Is the number {a} odd or even?")), "Odd" if a % 2 else "Even", "chat"),
        (pick((f"Say the word {word}.", f"Repeat this word: {word}")), word, "chat"),
        (pick((f"Spell {word}.", f"How do you spell {word}?")), "-".join(word.upper()), "chat"),
        (f"Which colour do you get from {first} and {second}?", mix[2], "chat"),
        (pick((f"What is the opposite of {opposite[0]}?", f"Name the opposite of {opposite[0]}.")), opposite[1], "chat"),
        (f"How many sides does a {sides[0]} have?", str(sides[1]), "chat"),
    ]


def pair_sample(rng, held_out, ratio, scenes):
    """Two pictures: one after the other before the question, each named in the question, or each in its own turn."""
    pick = rng.choice
    form = pick(("both", "both", "named", "named", "named", "turns"))
    if form == "turns":
        a = one_picture(rng, ratio, pick(scenes), held_out)
        b = one_picture(rng, ratio, pick(scenes), held_out)
        n = rng.randint(1, 2)
        qa, qb = rng.sample(a[1], min(n, len(a[1]))), rng.sample(b[1], len(b[1]))
        turns = [("<|image|>" + qa[0][0], qa[0][1], qa[0][2]), *qa[1:], ("<|image|>" + qb[0][0], qb[0][1], qb[0][2]), *qb[1:]]
        return [a[0], b[0]], turns, [a[3], b[3]]
    what = pick(("shapes", "shapes", "shapes", "count", "count", "digits", "digits", "word"))
    pics = []
    state = []
    same = pick((True, False))
    for i in range(2):
        w, h, f = draw_size(rng, ratio)
        if what == "shapes" or what == "count":
            while True:
                cv, _, fa = shapes_scene(rng, w, h, 2, 1 if what == "shapes" else rng.randint(1, 5))
                if not i or what == "count" or not same or fa["shapes"] == state[0]["shapes"] or fa["colours"] == state[0]["colours"]:
                    break
        elif what == "word":
            while True:
                cv, _, fa = text_scene(rng, w, h, 2, 1, what)
                if not i or not same or fa["got"][0][0][0] == state[0]["got"][0][0][0] or rng.random() < 0.05:
                    break
        else:
            while True:
                cv, _, fa = digits_scene(rng, w, h, 2, held_out, 1)
                if not i or not same or fa["value"] == state[0]["value"] or rng.random() < 0.05:
                    break
        state.append(fa)
        img = cv.done(1.0)
        fh, fw = fit(img.height, img.width, ratio)
        pics.append((img, [(x / w * fw, y / h * fh, c) for x, y, c in cv.marks]))
    qa = []
    ordered = form == "named"

    def add(q, key, verdict, word=str, sign=" and "):
        """The answer says what is seen first and concludes from it. Pictures that stand together have no order: they are told sorted."""
        x, y = map(key, state)
        seen = (x, y) if ordered else sorted((x, y))
        said = sign.join(map(word, seen))
        qa.append((q, f"{said[0].upper()}{said[1:]}{' = ' if sign == ' + ' else ': '}{verdict(x, y)}", "pair"))

    equal = lambda x, y: yes(x == y).lower()
    which = lambda first: "the first" if first else "the second"
    shape, colour = lambda p: SHAPES.index(p["shapes"][0]), lambda p: list(COLOURS).index(p["colours"][0])
    shape_word, colour_word = SHAPES.__getitem__, list(COLOURS).__getitem__
    count, value = lambda p: p["n"], lambda p: p["value"]
    if what == "shapes":
        add(pick(("Do both pictures show the same shape?", "Is the shape the same in both pictures?", "Are the two shapes the same?")),
            shape, equal, shape_word)
        add(pick(("Do the shapes have the same colour?", "Are both shapes the same color?", "Is the colour the same in both pictures?")),
            colour, equal, colour_word)
        a, b = state
        if not ordered:
            c = pick((a["colours"][0], b["colours"][0], pick(list(COLOURS))))
            qa.append((pick((f"Is there a {c} shape in one of the pictures?", f"Does one of the pictures show a {c} shape?")).replace("a orange", "an orange"),
                       yes(c in a["colours"] + b["colours"]), "pair"))
            s = pick((a["shapes"][0], b["shapes"][0], pick(SHAPES)))
            qa.append((pick((f"Is there a {s} in one of the pictures?", f"Does one of the pictures show a {s}?")),
                       yes(s in a["shapes"] + b["shapes"]), "pair"))
        else:
            s = pick(state)
            if shape(a) != shape(b):
                add(f"Which picture shows a {s['shapes'][0]}?", shape, lambda x, y: which(s is a), shape_word)
            if colour(a) != colour(b):
                add(f"Which picture has the {s['colours'][0]} shape?", colour, lambda x, y: which(s is a), colour_word)
    elif what == "count":
        if not ordered:
            add(pick(("How many shapes are in both pictures together?", "How many shapes are there in total?")), count, lambda x, y: x + y, sign=" + ")
        elif state[0]["n"] != state[1]["n"]:
            m = pick(("more", "fewer"))
            add(f"Which picture has {m} shapes?", count, lambda x, y: which((x > y) == (m == "more")))
        add(pick(("Do both pictures have the same number of shapes?", "Are there equally many shapes in both pictures?")), count, equal)
    elif what == "digits":
        add(pick(("Do both pictures show the same digit?", "Is it the same digit in both pictures?", "Are the two digits the same?")), value, equal)
        if not ordered:
            add(pick(("Which digit is larger?", "What is the larger digit?")), value, max)
            add(pick(("What is the sum of the two digits?", "Add the two digits.")), value, lambda x, y: x + y, sign=" + ")
        elif value(state[0]) != value(state[1]):
            add("Which picture shows the larger digit?", value, lambda x, y: which(x > y))
    else:
        add(pick(("Do both words begin with the same letter?", "Is the first letter the same in both pictures?")), lambda p: p["got"][0][0][0], equal)
    rng.shuffle(qa)
    if form == "both":
        turns = [("<|image|><|image|>" + qa[0][0], qa[0][1], qa[0][2]), *qa[1:]]
    else:
        # the question comes first, so that the words at each picture know what to look for
        names = pick(("First picture: <|image|> Second picture: <|image|>", "First: <|image|> Second: <|image|>"))
        turns = [(f"{qa[0][0]} {names}", qa[0][1], qa[0][2])]
    return [p[0] for p in pics], turns, [p[1] for p in pics]


BATCHES = ("1",) * 52 + ("2",) * 14 + ("3",) * 5 + ("4",) * 11 + ("pair",) * 14 + ("text",) * 4


def sample(seed, index, form=None, scenes=SCENES, first=()):
    """form: '1' ... '4' (tiles of the one picture), 'pair', 'text', or None: drawn. Questions of the kinds in `first` tend to come
    first, which training wants: a conversation's end is left away when it is too long."""
    rng = random.Random((seed << 40) ^ index)
    held_out = seed >= HELD_OUT
    form = form or rng.choice(BATCHES)
    if form == "text":
        qa = text_only(rng)
        rng.shuffle(qa)
        return dict(form=form, images=[], turns=qa, marks=[], ratios=[])
    if form == "pair":
        images, turns, marks = pair_sample(rng, held_out, (1, 1), scenes)
        return dict(form=form, images=images, turns=turns, marks=marks, ratios=[(1, 1)] * 2)
    ratio = rng.choice([r for r in RATIOS if r[0] * r[1] == int(form)] + ([(2, 2)] if form == "4" else []))
    img, qa, _, marks = one_picture(rng, ratio, rng.choice(scenes), held_out)
    captions = [q for q in qa if q[2] == "caption"]
    qa = [q for q in qa if q[2] != "caption"] + (captions if rng.random() < 0.25 else [])
    rng.shuffle(qa)
    if first:
        qa.sort(key=lambda q: rng.random() * (0.5 if q[2] in first else 1.0))
    turns = [("<|image|>" + qa[0][0], qa[0][1], qa[0][2]), *qa[1:]]
    if rng.random() < 0.1:  # a turn that needs no picture, now and then before there is one
        turns.insert(rng.randrange(min(4, len(turns))), rng.choice(text_only(rng)))
    return dict(form=form, images=[img], turns=turns, marks=[marks], ratios=[ratio])


def tiles_of(img, ratio):
    """uint8 [tiles, TILE, TILE, 3], as mllama's processor cuts them before normalising."""
    fh, fw = fit(img.height, img.width, ratio)
    if (fw, fh) != img.size:
        img = img.resize((fw, fh), Image.BILINEAR)
    full = np.zeros((ratio[0] * TILE, ratio[1] * TILE, 3), np.uint8)
    full[:fh, :fw] = np.asarray(img)
    return full.reshape(ratio[0], TILE, ratio[1], TILE, 3).swapaxes(1, 2).reshape(-1, TILE, TILE, 3)


def write_set(out, seed, count):
    """One question a picture: the first turn about it, asked alone."""
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "questions.jsonl"), "w") as f:
        for i in range(count):
            s = sample(seed, i)
            names = []
            for j, img in enumerate(s["images"]):
                names.append(f"{i:05d}-{j}.png")
                img.save(os.path.join(out, names[-1]))
            q, a, kind = next(t for t in s["turns"] if not names or "<|image|>" in t[0])
            names = names[:q.count("<|image|>")]
            f.write(json.dumps(dict(images=names, question=q, answer=a, kind=kind)) + "\n")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--seed", type=int, default=HELD_OUT)
    p.add_argument("--count", type=int, default=2000)
    p.add_argument("out")
    o = p.parse_args()
    write_set(o.out, o.seed, o.count)
