# SPDX-License-Identifier: Apache-2.0
"""Batches of one kind each (tiles of the picture, two pictures, no picture), made by (seed, number) alone."""
import random

import numpy as np
import torch

from generate import BATCHES, GRID_OF_MARK, MARKS, RATIOS, TILE, sample, tiles_of
from vocabulary import IMAGE, PAD

LENGTH = 128
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


def make(tok, seed, number, size):
    """A dictionary of tensors: ids and owner [B,L], tiles [pictures,t,S,S,3], ratio [pictures], seen [B,L,K], marks."""
    form = random.Random(f"{seed} {number}").choice(BATCHES)
    if form == "pair":
        size //= 2
    rows, tiles, ratio, marks, turns = [], [], [], [], []
    for i in range(size):
        s = sample(seed, number * 1024 + i, form)
        ids, owner, used = tokens(tok, s, random.Random(number * 1024 + i))
        rows.append((ids, owner))
        turns.append(used)
        for img, r, m in zip(s["images"], s["ratios"], s["marks"]):
            tiles.append(tiles_of(img, r))
            ratio.append(RATIOS.index(r) + 1)
            y = np.zeros((r[0] * r[1], GRID_OF_MARK, GRID_OF_MARK, len(MARKS)), bool)
            step = TILE // GRID_OF_MARK
            for px, py, c in m:
                gx, gy = int(px // step), int(py // step)
                if 0 <= gx < r[1] * GRID_OF_MARK and 0 <= gy < r[0] * GRID_OF_MARK:
                    y[gy // GRID_OF_MARK * r[1] + gx // GRID_OF_MARK, gy % GRID_OF_MARK, gx % GRID_OF_MARK, c] = True
            marks.append(y.reshape(r[0] * r[1], -1, len(MARKS)))
    n = -(-max(len(r[0]) for r in rows) // 16) * 16
    out = dict(form=form, turns=turns, ids=torch.tensor([r[0] + [PAD] * (n - len(r[0])) for r in rows]),
               owner=torch.tensor([r[1] + [-1] * (n - len(r[1])) for r in rows]))
    if tiles:
        out.update(tiles=torch.from_numpy(np.stack(tiles)), ratio=torch.tensor(ratio), marks=torch.from_numpy(np.stack(marks)))
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
    def __init__(self, directory, seed, size):
        self.directory, self.seed, self.size, self.tok = directory, seed, size, None

    def __getitem__(self, number):
        if self.tok is None:
            import vocabulary

            torch.set_num_threads(1)
            self.tok = vocabulary.load(self.directory)
        return make(self.tok, self.seed, number, self.size)
