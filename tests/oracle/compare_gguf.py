#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Ollama files of tests/data through $PUNA against what transformers computes from the same numbers."""
import json
import os
import sys

import numpy as np
from safetensors import safe_open

import puna

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
OLLAMA = os.path.join(DATA, "ollama")
os.environ["OLLAMA_MODELS"] = os.path.join(OLLAMA, "models")
TOLERANCE = 2e-3


def cases(directory):
    return json.load(open(os.path.join(directory, "cases.json")))["cases"]


def run(label, model, directory, golden, prefix, more=()):
    worst, feats = 0.0, 0.0
    with safe_open(golden, "np") as g:
        keys = set(g.keys())
        for c in cases(directory):
            key = f"{prefix}{c['name']}/logits"
            if key not in keys:
                continue
            images = [os.path.join(directory, "images", p + ".png") for p in c["images"]]
            try:
                got = puna.logits(model, ids=c["ids"], images=images, more=more)
                worst = max(worst, float(np.abs(got["logits"] - g.get_tensor(key)).max()))
                if key.replace("logits", "vision_features") in keys:
                    e = puna.encode(model, images, more=more)
                    want = g.get_tensor(key.replace("logits", "vision_features"))
                    for j, n in enumerate(c["num_tiles"]):
                        feats = max(feats, float(np.abs(e["vision_features"][j, :n] - want[j, :n]).max()))
            except puna.Failed as e:
                print(f"FAIL {label:22s} {c['name']}: {e}")
                return 1
    bad = not max(worst, feats) <= TOLERANCE
    print(f"{'FAIL' if bad else 'ok  '} {label:22s} logits {worst:.2e}  features {feats:.2e}")
    return bad


def main():
    b, c = os.path.join(DATA, "tiny-b"), os.path.join(OLLAMA, "tiny-c")
    gb, gq = os.path.join(b, "golden.safetensors"), os.path.join(OLLAMA, "golden.safetensors")
    a = os.path.join(DATA, "tiny-a")
    tl = os.path.join(DATA, "tiny-llama")
    gl = os.path.join(tl, "golden.safetensors")
    text, projector = (os.path.join(OLLAMA, f"tiny-b-{n}.gguf") for n in ("text", "projector"))
    failed = [
        run("tiny-b hub", os.path.join(b, "model"), b, gb, ""),
        run("tiny-b", "tiny-b", b, gb, ""),
        run("tiny-b:f16", "tiny-b:f16", b, gb, ""),
        run("tiny-b-split", "tiny-b-split", b, gb, ""),
        run("two files", text, b, gb, "", ("--projector", projector)),
        run("tiny-b:q8_0", "tiny-b:q8_0", b, gq, "tiny-b/q8_0/"),
        run("tiny-b:q4_k_m", "tiny-b:q4_k_m", b, gq, "tiny-b/q4_k_m/"),
        run("tiny-c:q4_k_m", "tiny-c:q4_k_m", c, gq, "tiny-c/q4_k_m/"),
        run("tiny-llama hub", os.path.join(tl, "model"), tl, gl, ""),
        run("tiny-llama", "tiny-llama", tl, gl, ""),
        run("tiny-llama:q8_0", "tiny-llama:q8_0", tl, gq, "tiny-llama/q8_0/"),
        run("tiny-a-combined-f16", os.path.join(OLLAMA, "tiny-a-combined-f16.gguf"), a, os.path.join(a, "golden.safetensors"), ""),
    ]
    return any(failed)


if __name__ == "__main__":
    sys.exit(main())
