#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_tiny_c.py OUT_DIR: the model tiny-c (hub layout), pictures and goldens.

All widths are multiples of 256, so that Ollama's quantiser uses Q4_K and Q6_K, in the vision tower too."""
import os
import sys

import numpy as np

import models
import pictures
from reference import write_goldens

out = sys.argv[1]
cfg = models.mllama_config(hidden=256, heads=4, kv=2, layers=4, cross=[1, 3], ff=256, v_hidden=256, v_heads=4, v_ff=64,
                           v_local=2, v_global=1, inter=[1], tile=28)
rng = np.random.default_rng(8)
models.save_hub(os.path.join(out, "model"), cfg, models.random_weights(cfg, rng))
os.makedirs(os.path.join(out, "images"), exist_ok=True)
for name, w, h in (("wide", 60, 23), ("gray", 27, 57)):
    pictures.save(pictures.picture(rng, w, h, "L" if name == "gray" else "RGB", noise=False),
                  os.path.join(out, "images", name + ".png"))
BOS = "<|begin_of_text|>"
write_goldens(out, [("text", BOS + "Plain words.", ()), ("base", BOS + "<|image|>A line about it", ("wide",)),
                    ("two", BOS + "See <|image|>first and <|image|>last.", ("wide", "gray"))])
