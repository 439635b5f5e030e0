#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_tiny_b.py OUT_DIR: the model tiny-b (hub layout), its pictures and goldens.

A second model, much smaller than tiny-a and of another shape: 5 tokens per tile (3 pads), intermediates 0 and 2,
cross layers 1 and 3 of 5, head_dim 16, all sizes multiples of 32 so that Q8_0 holds every matrix."""
import os
import sys

import numpy as np

import models
import pictures
from reference import write_goldens

out = sys.argv[1]
cfg = models.mllama_config(hidden=64, heads=4, kv=2, layers=5, cross=[1, 3], ff=128, v_hidden=32, v_heads=2, v_ff=64,
                           v_local=4, v_global=2, inter=[0, 2], tile=28)
rng = np.random.default_rng(4)  # leaves 0.02 between the two best logits everywhere
models.save_hub(os.path.join(out, "model"), cfg, models.random_weights(cfg, rng))
os.makedirs(os.path.join(out, "images"), exist_ok=True)
for name, w, h, mode in (("one", 28, 25, "RGB"), ("wide", 71, 20, "RGB"), ("tall", 24, 80, "RGB"), ("square", 50, 52, "RGB"),
                         ("big", 190, 130, "P"), ("alpha", 56, 28, "RGBA"), ("gray", 27, 57, "L")):
    pictures.save(pictures.picture(rng, w, h, mode, noise=False), os.path.join(out, "images", name + ".png"))
BOS = "<|begin_of_text|>"


def chat(body):
    return (f"{BOS}<|start_header_id|>user<|end_header_id|>\n\n{body}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n")


write_goldens(out, [
    ("text", BOS + "Words only, no picture; 3.14159 and \u00e9t\u00e9.", ()),
    ("base", BOS + "<|image|>A line about it", ("one",)),
    ("chat-wide", chat("<|image|>What is this?"), ("wide",)),
    ("late-tall", chat("Some words come first. <|image|>Describe it."), ("tall",)),
    ("square", chat("<|image|>How many?"), ("square",)),
    ("big-palette", chat("<|image|>Colours?"), ("big",)),
    ("alpha", chat("<|image|>Behind?"), ("alpha",)),
    ("two", chat("<|image|>First.<|image|>Second: compare."), ("wide", "gray")),
    ("run", chat("Both <|image|><|image|>here"), ("tall", "one")),
    ("three", chat("<|image|>a<|image|><|image|>b and c"), ("gray", "square", "alpha")),
])
