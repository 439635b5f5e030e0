# SPDX-License-Identifier: Apache-2.0
"""The training network and puna against transformers: logits of whole conversations of every kind, in float32, and
the greedy answers to their first questions.

    compare_demo.py HUB_DIRECTORY [EACH]; with PUNA=build/puna in the environment puna is checked too

EACH conversations of each form are compared (one to four tiles, two pictures, none); 10 make some 60 pictures.
"""
import os
import random
import sys
import tempfile

import numpy as np
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/demo-model"))
import puna  # noqa: E402
from reference import Reference, load_safetensors  # noqa: E402

import batches  # noqa: E402
import vocabulary  # noqa: E402
from generate import sample  # noqa: E402
from model import Net  # noqa: E402


def against_puna(directory, ref, ids, owner, images):
    """Largest difference of puna's logits, and whether it answers the first question as transformers does."""
    with tempfile.TemporaryDirectory() as d:
        paths = []
        for i, img in enumerate(images):
            paths.append(os.path.join(d, f"{i}.png"))
            img.save(paths[-1])
        got = puna.logits(directory, ids=ids, images=paths)["logits"]
        diff = float(np.abs(got - ref.logits(ids, images)).max())
        start = owner.index(0)
        count = ids[:start].count(ref.image_token)
        want, gap = ref.greedy(ids[:start], images[:count], 12)
        seq = list(ids[:start])
        same = True
        for t in want:
            if int(puna.logits(directory, ids=seq, images=paths[:count], precise=False)["logits"][-1].argmax()) != t:
                same = False
                break
            seq.append(t)
            if t == vocabulary.EOT:
                break
    return diff, same, gap


@torch.no_grad()
def main():
    directory = sys.argv[1]
    each = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    ref, tok = Reference(directory), vocabulary.load(directory)
    net = Net(load_safetensors(directory), torch.float32)
    net.begin()
    worst, bad = {}, 0
    for number in range(60 * each):
        b = batches.make(tok, 900, number, 2)
        form = b["form"]
        d, n, pd, agree = worst.get(form, (0.0, 0, 0.0, 0))
        if n >= each:
            continue
        s = sample(900, number * 1024, form, batches.ASKED, batches.FIRST)
        ids, owner, _ = batches.tokens(tok, s, random.Random(number * 1024))
        states = None
        if s["images"]:
            states = net.vision(b["tiles"], b["ratio"]).view(len(b["ids"]), -1, 256)
        mine = net.logits(net.text(b["ids"], states, b.get("seen")))[0, :len(ids)]
        theirs = torch.from_numpy(ref.logits(ids, s["images"]))
        d = max(d, float((mine - theirs).abs().max()))
        if "PUNA" in os.environ:
            diff, same, gap = against_puna(directory, ref, ids, owner, s["images"])
            pd, agree = max(pd, diff), agree + same
            if not same:
                print(f"{form} {number}: another greedy answer; the closest two logits are {gap:.4f} apart")
                bad += gap > 0.05
        worst[form] = (d, n + 1, pd, agree)
    for k, (d, n, pd, agree) in sorted(worst.items()):
        more = f"; puna: {pd:.1e}, {agree} of {n} greedy answers the same" if "PUNA" in os.environ else ""
        print(f"{k:5s} {n} conversations, largest difference of a logit {d:.1e}{more}")
    sys.exit(bad or max(max(w[0] for w in worst.values()), max(w[2] for w in worst.values()) / 20) > 1e-4)


if __name__ == "__main__":
    main()
