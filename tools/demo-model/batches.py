# SPDX-License-Identifier: Apache-2.0
"""Batches of one kind each (tiles of the picture, two pictures, no picture), made by (seed, number) alone."""
import random

import numpy as np
import torch

from generate import BATCHES, GRID_OF_MARK, RATIOS, SCENES, TILE, one_picture, sample, tiles_of
from vocabulary import IMAGE, PAD

LENGTH = 128
SEEN = SCENES + ("text",) * 3  # letters take longest to learn
ASKED = ("shapes",) * 4 + ("text",) * 5 + ("chart",) + ("digits",) * 2  # charts are learned soonest
FIRST = ("position", "count", "text")  # of a picture's questions, what is harder than the others
TURN = "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
SYSTEM = "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: {}\n\n<|eot_id|>"


def tokens(tok, s, rng):
    """ids, the turn each id answers (or -1), and the turns that fitted."""
    ids = tok.encode("<|begin_of_text|>", add_special_tokens=False).ids
    if not s["images"]:
        date = f"{rng.randint(1, 31):02d} {rng.choice('Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split())} {rng.randint(2024, 2028)}"
        ids = ids + tok.encode(SYSTEM.format(date), add_special_tokens=False).ids
    owner = [-1] * len(ids)
    need, used = len(s["images"]), []
    for q, a, kind in s["turns"]:
        qi = tok.encode(TURN.format(q), add_special_tokens=False).ids
        ai = tok.encode(a + "<|eot_id|>", add_special_tokens=False).ids
        if len(ids) + len(qi) + len(ai) > LENGTH and not (need and "<|image|>" in q):
            continue
        need -= q.count("<|image|>")
        ids += qi + ai
        owner += [-1] * len(qi) + [len(used)] * len(ai)
        used.append((q, a, kind))
    return ids, owner, used


def mark_index(ratio, x, y, c):
    """(tile, patch, class) of a mark; what fell over the edge counts for the patch at the edge."""
    step = TILE // GRID_OF_MARK
    gx = min(max(int(x // step), 0), ratio[1] * GRID_OF_MARK - 1)
    gy = min(max(int(y // step), 0), ratio[0] * GRID_OF_MARK - 1)
    return gy // GRID_OF_MARK * ratio[1] + gx // GRID_OF_MARK, gy % GRID_OF_MARK * GRID_OF_MARK + gx % GRID_OF_MARK, c


def stacked(marks):
    """int64 [n][4]: picture, tile, patch, class"""
    return torch.from_numpy(np.concatenate([np.insert(m, 0, i, 1) for i, m in enumerate(marks)]).astype(np.int64))


def pictures(seed, number, size):
    """Pictures and marks alone, for the first part of the training: full of things, most on four tiles."""
    rng = random.Random(f"pictures {seed} {number}")
    form = rng.choice("1111122244")
    ratio = rng.choice([r for r in RATIOS if r[0] * r[1] == int(form)] + ([(2, 2)] if form == "4" else []))
    tiles, marks = [], []
    for i in range(size * 2 // int(form)):
        img, _, _, m = one_picture(rng, ratio, rng.choice(SEEN), False, full=rng.random() < 0.8)
        tiles.append(tiles_of(img, ratio))
        marks.append(np.unique([mark_index(ratio, *a) for a in m], axis=0))
    return dict(form="see " + form, tiles=torch.from_numpy(np.stack(tiles)), ratio=torch.tensor([RATIOS.index(ratio) + 1] * len(tiles)),
                marks=stacked(marks))


def make(tok, seed, number, size):
    """A dictionary of tensors: ids and owner [B,L], tiles [pictures,t,S,S,3], ratio [pictures], seen [B,L,K], marks."""
    form = random.Random(f"{seed} {number}").choice(BATCHES + ("pair",) * 14)  # comparing takes longest to learn
    rows, tiles, ratio, marks, turns = [], [], [], [], []
    for i in range(size):
        s = sample(seed, number * 1024 + i, form, ASKED, FIRST)
        ids, owner, used = tokens(tok, s, random.Random(number * 1024 + i))
        rows.append((ids, owner))
        turns.append(used)
        for img, r, m in zip(s["images"], s["ratios"], s["marks"]):
            tiles.append(tiles_of(img, r))
            ratio.append(RATIOS.index(r) + 1)
            marks.append(np.unique([mark_index(r, *a) for a in m], axis=0) if m else np.zeros((0, 3), int))
    n = -(-max(len(r[0]) for r in rows) // 16) * 16
    out = dict(form=form, turns=turns, ids=torch.tensor([r[0] + [PAD] * (n - len(r[0])) for r in rows]),
               owner=torch.tensor([r[1] + [-1] * (n - len(r[1])) for r in rows]))
    if tiles:
        out.update(tiles=torch.from_numpy(np.stack(tiles)), ratio=torch.tensor(ratio), marks=stacked(marks))
        per = 2 if form == "pair" else 1
        t = out["tiles"].shape[1]
        keys = GRID_OF_MARK ** 2 + 1
        seen = np.zeros((size, n, per * t * keys), bool)
        for b, (ids, _) in enumerate(rows):
            at = [i for i, x in enumerate(ids) if x == IMAGE]
            if len(at) != per:
                raise ValueError(f"{len(at)} pictures in the text, {per} there: {turns[b]}")
            spans = [[a, e] for a, e in zip(at, at[1:] + [n])]
            for s, nxt in reversed(list(zip(spans, spans[1:]))):
                if s[1] == s[0] + 1:
                    s[1] = nxt[1]
            for j, (a, e) in enumerate(spans):
                seen[b, a:e, j * t * keys:(j + 1) * t * keys] = True
        out["seen"] = torch.from_numpy(seen)
    return out


class Batches(torch.utils.data.Dataset):
    """The first `see` are pictures alone, and then every fourth: it costs a third and shows ten times as many letters."""

    def __init__(self, directory, seed, size, see):
        self.directory, self.seed, self.size, self.see, self.tok = directory, seed, size, see, None

    def __getitem__(self, number):
        if self.tok is None:
            import vocabulary

            torch.set_num_threads(1)
            self.tok = vocabulary.load(self.directory)
        return pictures(self.seed, number, self.size) if number < self.see or number % 4 == 0 else make(self.tok, self.seed, number, self.size)
