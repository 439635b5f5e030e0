#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random models, pictures and prompts through $PUNA and through transformers.

Prints the largest differences per model; exit status 1 when a logit is off by more than --tolerance, a token id or a pixel
differs, or puna fails. What failed is kept under --work together with the command that shows it.
"""
import argparse
import json
import os
import shutil
import sys

import numpy as np
from PIL import Image

import hub2gguf
import models
import pictures
import puna
from reference import Reference

WORDS = ("the", "picture", "shows", "a", "red", "circle", "and", "two", "waves", "12345", "what?", "it's", "\n\n", "Ünïcode",
         "面白い", "  spaces", "end.", "we'll", "see", "(or not)")
BOS = "<|begin_of_text|>"


def words(rng, low, high):
    return " ".join(str(rng.choice(WORDS)) for _ in range(int(rng.integers(low, high + 1))))


def prompts(rng):
    """(number of pictures, prompt): text only; at the start; late; two apart; a run; three mixed; picture last."""
    i = "<|image|>"
    w = lambda: words(rng, 1, 12)
    chat = lambda body: (f"{BOS}<|start_header_id|>user<|end_header_id|>\n\n{body}<|eot_id|>"
                         "<|start_header_id|>assistant<|end_header_id|>\n\n")
    return [(0, BOS + words(rng, 5, 60)), (1, BOS + i + w()), (1, chat(words(rng, 3, 40) + i + w())), (2, chat(i + w() + i + w())),
            (2, BOS + w() + i + i + w()), (3, chat(w() + i + w() + i + i + w())), (3, BOS + i + i + i + w()), (1, BOS + w() + i),
            (4, BOS + i + w() + i + i + w() + i + w())]


class Tally:
    def __init__(self, name, tolerance):
        self.name, self.tolerance, self.worst, self.bad = name, tolerance, {}, []

    def add(self, key, value, limit, where):
        value = float(value)
        self.worst[key] = max(self.worst.get(key, 0.0), value) if value == value else float("nan")
        if not value <= limit:
            self.bad.append(f"{key} {value:.3e} (limit {limit:g}): {where}")

    def line(self):
        return "  ".join(f"{k} {v:.1e}" for k, v in self.worst.items())


def diff(a, b):
    if a.shape != b.shape:
        return float("inf")
    return np.abs(a - b).max() if a.size else 0.0


def check_logits(t, key, ref, model, ids, files, images, prompt=None, hf=False, more=()):
    where = f"{key} model={model} {' '.join(map(str, more))} ids={','.join(map(str, ids))} pictures={files}" + (" hf-rows" if hf else "")
    try:
        if prompt is not None:
            got = puna.logits(model, prompt=prompt, images=files, hf_rows=hf, more=more)
        else:
            got = puna.logits(model, ids=ids, images=files, hf_rows=hf, more=more)
    except Exception as e:
        t.bad.append(f"{key}: {e}")
        return
    if list(got["ids"]) != list(ids):
        t.bad.append(f"ids {list(got['ids'])} instead of {list(ids)}: {where}")
        return
    want = ref.logits(ids, images, hf)
    t.add(key, diff(got["logits"], want), t.tolerance, where)


def vision_model(seed, work, opts):
    rng = np.random.default_rng(seed)
    cfg = models.random_mllama_config(rng)
    zero = bool(rng.integers(4)) if opts.unused == "some" else opts.unused == "zero"
    directory = os.path.join(work, f"v{seed}")
    shutil.rmtree(directory, ignore_errors=True)
    models.save_hub(directory, cfg, models.random_weights(cfg, rng, zero), shards=int(rng.integers(1, 4)))
    ref = Reference(directory)
    tile = cfg["vision_config"]["image_size"]
    pics, files = [], []
    for i in range(4):
        img, suffix = pictures.random_picture(rng, tile)
        files.append(os.path.join(directory, f"p{i}.{suffix}"))
        pictures.save(img, files[-1])
    usable = []
    for f in files:
        img = Image.open(f)
        try:  # transformers 4.49 lets extreme shapes become zero pixels wide or high
            ref.pictures([img])
            usable.append((f, img))
        except ValueError as e:
            if "must be > 0" not in str(e):
                raise
    tc, vc = cfg["text_config"], cfg["vision_config"]
    t = Tally(f"v{seed}", opts.tolerance)
    shape = (f"d {tc['hidden_size']}/{tc['num_attention_heads']}/{tc['num_key_value_heads']} L {tc['num_hidden_layers']} x "
             f"{tc['cross_attention_layers']} ff {tc['intermediate_size']} eps {tc['rms_norm_eps']:g} rope {tc['rope_scaling']['rope_type'][0]}"
             f" | v {vc['hidden_size']}/{vc['attention_heads']} {vc['num_hidden_layers']}+{vc['num_global_layers']} ff {vc['intermediate_size']}"
             f" inter {vc['intermediate_layers_indices']} tile {tile}{'' if zero else ' UNUSED ROWS NOT ZERO'}")
    # things that must not change the result
    same = [(), ("--chunk", "1"), ("--chunk", "7"), ("--threads", "1"), ("--full-tiles",), ("--chunk", "33", "--threads", "2")]
    extra = [("hub", directory, ())]
    if opts.gguf:
        text, proj, comb = (os.path.join(directory, n) for n in ("text.gguf", "projector.gguf", "combined.gguf"))
        hub2gguf.write_split(directory, text, proj)
        hub2gguf.write_combined(directory, comb)
        extra += [("split", text, ("--projector", proj)), ("combined", comb, ())]
    for number, (f, img) in enumerate(usable):  # encode
        px, ratio, tiles, rmask = ref.pictures([img])
        feats = ref.features(px, ratio, rmask)
        n = int(tiles[0])
        forms = [extra[0], ("full", directory, ("--full-tiles",)), *extra[1:]]
        for form, model, more in forms[:1] + forms[1 + number % 2::2]:
            where = f"encode {form} {model} {f} {img.mode} {img.size}"
            try:
                e = puna.encode(model, [f], more=more)
            except Exception as x:
                t.bad.append(f"encode: {x}")
                continue
            if int(e["num_tiles"].reshape(-1)[0]) != n or int(e["aspect_ratio_ids"].reshape(-1)[0]) != int(ratio[0]):
                t.bad.append(f"tiles {e['num_tiles']} {e['aspect_ratio_ids']} instead of {n} {ratio[0]}: {where}")
                continue
            t.add("pixels", diff(e["pixel_values"], px), 0.0, where)
            t.add("features", diff(e["vision_features"][:, :n], feats[:, :n]), opts.tolerance, where)
    for k, (n, prompt) in enumerate(prompts(rng)):
        if n > len(usable):
            continue
        chosen = [usable[int(j)] for j in rng.choice(len(usable), n, replace=False)]
        ids = ref.ids(prompt)
        images, paths = [c[1] for c in chosen], [c[0] for c in chosen]
        form, model, more = extra[k % len(extra)] if opts.gguf else extra[0]
        more = more + same[int(rng.integers(len(same)))]
        check_logits(t, "meta", ref, model, ids, paths, images, prompt=prompt if k % 3 == 0 else None, more=more)
        if n:
            if not zero and "--full-tiles" not in more:  # puna asks for it
                more += ("--full-tiles",)
            check_logits(t, "hf", ref, model, ids, paths, images, hf=True, more=more)
    return t, shape, directory


def text_model(seed, work, opts):
    rng = np.random.default_rng(seed)
    cfg = models.random_llama_config(rng)
    directory = os.path.join(work, f"t{seed}")
    shutil.rmtree(directory, ignore_errors=True)
    models.save_hub(directory, cfg, models.random_weights(cfg, rng), shards=int(rng.integers(1, 3)))
    ref = Reference(directory)
    path = os.path.join(directory, "llama.gguf")
    hub2gguf.write_llama(directory, path)
    t = Tally(f"t{seed}", opts.tolerance)
    for n in (1, 8, 150):
        ids = ref.ids(BOS + words(rng, n, n))
        check_logits(t, "hub", ref, directory, ids, [], [])
        check_logits(t, "gguf", ref, path, ids, [], [])
    return t, (f"d {cfg['hidden_size']}/{cfg['num_attention_heads']}/{cfg['num_key_value_heads']} L {cfg['num_hidden_layers']} "
               f"ff {cfg['intermediate_size']}{' tied' if cfg['tie_word_embeddings'] else ''} rope {'s' if cfg['rope_scaling'] else '-'}"), directory


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--count", type=int, default=30, help="models with pictures")
    p.add_argument("--text", type=int, default=8, help="text models")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--work", default="/tmp/oracle-work")
    p.add_argument("--tolerance", type=float, default=2e-3)
    p.add_argument("--gguf", action="store_true", help="also as split and combined GGUF")
    p.add_argument("--unused", choices=("zero", "some", "nonzero"), default="zero",
                   help="unused rows of the tile tables: zero as in real checkpoints, or not")
    opts = p.parse_args()
    failed, worst = 0, {}
    for make, n in ((vision_model, opts.count), (text_model, opts.text)):
        for s in range(opts.seed, opts.seed + n):
            t, shape, directory = make(s, opts.work, opts)
            print(f"{'FAIL' if t.bad else 'ok  '} {t.name:5s} {t.line()}  [{shape}]", flush=True)
            for b in t.bad[:4]:
                print("     " + b)
            if len(t.bad) > 4:
                print(f"     ... {len(t.bad)} in all")
            failed += bool(t.bad)
            for k, v in t.worst.items():
                worst[k] = max(worst.get(k, 0.0), v)
            if not t.bad:
                shutil.rmtree(directory)
    print(f"{failed} failed; largest: " + "  ".join(f"{k} {v:.2e}" for k, v in worst.items()))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
