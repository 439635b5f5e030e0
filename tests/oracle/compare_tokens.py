#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random text through `$PUNA tokenize` and through Hugging Face's tokenizers.
compare_tokens.py TOKENIZER_DIR [--count N] [--seed S]; TOKENIZER_DIR/tokenizer.json is put beside random weights of fitting size."""
import argparse
import json
import os
import shutil
import sys

import numpy as np
from tokenizers import Tokenizer

import hub2gguf
import models
import puna

RANGES = [(32, 127)] * 6 + [(9, 14), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xD80), (0xE00, 0xE80),
          (0x1100, 0x1200), (0x2000, 0x2070), (0x2070, 0x2400), (0x3000, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
          (0xFF00, 0xFFEF), (0x1F300, 0x1FAFF), (0x1D400, 0x1D800), (0x10000, 0x10FFFF), (0x80, 0xA0), (0xE000, 0xF900)]
BITS = ["  ", "\n", "\r\n", "\n\n\n", " \t", "'s", "'RE", "'ll", "don't", "I'LL", "123", "1234567", "٣٤٥", "½", "the", " The",
        "<|eot_id|>", "<|image|>", "<|begin_of_text|>", "<|eot_id", "|>", "\u3000", "\u00a0", "e\u0301", "\u200d", "👩‍👩‍👧", "ǅ", "ß", "İ", "ſ", "'ſ",
        "...", "!!!\n", " ?\n", "_", "\u0085", "\u2028", "\x1c", "\u180e", "def f(x):\n    return x"]


def pieces(rng):
    """Loading the real vocabulary takes longer than the text, so texts are long."""
    out = []
    for _ in range(int(rng.integers(1, 400))):
        if rng.integers(2):
            out.append(BITS[int(rng.integers(len(BITS)))])
        else:
            lo, hi = RANGES[int(rng.integers(len(RANGES)))]
            out.append("".join(chr(c) for c in rng.integers(lo, hi, int(rng.integers(1, 8))) if not 0xD800 <= c < 0xE000))
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory")
    p.add_argument("--count", type=int, default=300)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--gguf", action="store_true", help="the vocabulary through a GGUF file")
    p.add_argument("--work", default="/tmp/oracle-tokens")
    a = p.parse_args()
    tok = Tokenizer.from_file(os.path.join(a.directory, "tokenizer.json"))
    vocab = tok.get_vocab()
    size = max(i for s, i in vocab.items() if s != "<|image|>") + 1
    cfg = models.llama_config(hidden=8, heads=2, kv=1, layers=1, ff=8, tied=True, scaled=False, vocab=size)
    cfg.update(bos_token_id=vocab["<|begin_of_text|>"], eos_token_id=vocab["<|eot_id|>"], pad_token_id=0)
    models.save_hub(a.work, cfg, models.random_weights(cfg, np.random.default_rng(0)))
    shutil.copyfile(os.path.join(a.directory, "tokenizer.json"), os.path.join(a.work, "tokenizer.json"))
    model = a.work
    if a.gguf:
        model = os.path.join(a.work, "model.gguf")
        hub2gguf.write_llama(a.work, model)
    rng = np.random.default_rng(a.seed)
    bad = 0

    def differ(parts):
        t = "".join(parts)
        want = tok.encode(t, add_special_tokens=False).ids
        got = json.loads(puna.call("tokenize", "-m", model, "--json", "-p", t).stdout)["ids"] if t else []
        return (t, want, got) if got != want else None

    for i in range(a.count):
        parts = pieces(rng)
        if not differ(parts):
            continue
        bad += 1
        n = len(parts)
        while n > 1:  # the smallest part of it that still shows it
            n //= 2
            at = 0
            while at < len(parts):
                less = parts[:at] + parts[at + n:]
                if differ(less):
                    parts = less
                else:
                    at += n
        t, want, got = differ(parts)
        print(f"FAIL {t!r}\n   want {want}\n   got  {got}", flush=True)
    print(f"{bad} of {a.count} differ")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
