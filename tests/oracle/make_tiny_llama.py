#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_tiny_llama.py OUT_DIR: a plain text Llama with tied embeddings and scaled RoPE, as Llama 3.2 1B and 3B are, and goldens."""
import os
import sys

import numpy as np

import models
from reference import write_goldens

out = sys.argv[1]
cfg = models.llama_config(hidden=96, heads=6, kv=2, layers=3, ff=160, tied=True)
models.save_hub(os.path.join(out, "model"), cfg, models.random_weights(cfg, np.random.default_rng(6)))
BOS = "<|begin_of_text|>"
write_goldens(out, [("short", BOS + "Hi", ()), ("long", BOS + "The quick brown fox; " * 12, ()),
                    ("chat", BOS + "<|start_header_id|>user<|end_header_id|>\n\nHow are you?<|eot_id|>"
                     "<|start_header_id|>assistant<|end_header_id|>\n\n", ())])
