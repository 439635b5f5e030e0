#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gguf_check.py HUB_DIR FILE.gguf [PROJECTOR.gguf] [-v]: the file's values, brought back to hub names, against the hub
directory's: largest difference per tensor type; -v lists keys and tensors."""
import collections
import sys

import numpy as np

import ggufio
import hub2gguf

args = [a for a in sys.argv[1:] if a != "-v"]
cfg, want = hub2gguf.load(args[0])
got = hub2gguf.hub_weights(args[1:], cfg)
if set(got) != set(want):
    print("missing", sorted(set(want) - set(got))[:9], "extra", sorted(set(got) - set(want))[:9])
worst = collections.defaultdict(lambda: (0, ""))
for k in sorted(set(want) & set(got)):
    if got[k].shape != want[k].shape:
        print(k, got[k].shape, want[k].shape)
        continue
    worst[k.split(".")[0]] = max(worst[k.split(".")[0]], (float(np.abs(got[k] - want[k]).max()), k))
for part, (d, k) in worst.items():
    print(f"{part:24s} {d:.3e} at {k}")
for p in args[1:]:
    r = ggufio.Reader(p)
    print(p, len(r.kv), "keys", len(r.tensors), "tensors", dict(collections.Counter(t[1] for t in r.tensors.values())))
    if "-v" in sys.argv:
        for k, v in r.kv.items():
            print("  ", k, r.kinds[k], f"[{len(v)}] {v[:3]}" if isinstance(v, list) else v)
        for n in r.order:
            print("  ", n, r.tensors[n][0], r.tensors[n][1])
