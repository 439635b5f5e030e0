#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random LoRA adapters through $PUNA --lora and through peft, on random models (hub, split and combined GGUF; a quarter text only).

Each adapter is saved by peft itself; some are then given the names of transformers 4.50 and later. Prints the largest differences;
exit status 1 when a logit or a feature is off by more than --tolerance. --write DIR makes tests/data/lora instead.
"""
import argparse
import copy
import json
import os
import re
import shutil
import sys

import numpy as np
import peft
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import hub2gguf
import models
import pictures
import puna
from reference import Reference

BOS = "<|begin_of_text|>"
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "fc1", "fc2", "multi_modal_projector", "lm_head"}
HERE = os.path.dirname(os.path.abspath(__file__))


def newer_names(name):
    """A module's name of transformers up to 4.49 as later ones have it."""
    root, rest = name[:len("base_model.model.")], name[len("base_model.model."):]
    for old, new in (("language_model.lm_head", "lm_head"), ("language_model.model.", "model.language_model."),
                     ("vision_model.", "model.vision_model."), ("multi_modal_projector", "model.multi_modal_projector")):
        if rest.startswith(old):
            return root + new + rest[len(old):]
    raise SystemExit(name)


def random_config(rng, vision):
    pick = lambda *a: a[int(rng.integers(len(a)))]
    names = sorted(LINEAR if vision else LINEAR - {"fc1", "fc2", "multi_modal_projector"})
    chosen = [str(n) for n in rng.choice(names, int(rng.integers(2, len(names) + 1)), replace=False)]
    c = dict(r=pick(1, 2, 4, 8, 16, 33), lora_alpha=pick(1, 4, 16, 32), use_rslora=bool(rng.integers(2)), target_modules=chosen)
    if rng.integers(2):
        c["rank_pattern"] = {chosen[0]: pick(3, 5, 40)}
    if rng.integers(2):
        c["alpha_pattern"] = {pick(chosen[1], r"layers\.[01]\..*"): pick(2, 24)}
    return c


def randomize(model, name, rng, size):
    """B such that the change is of about the same size whatever the scaling: huge ones only show that random networks are chaotic."""
    for module in model.modules():
        if name in getattr(module, "lora_A", {}):
            a, b = module.lora_A[name].weight, module.lora_B[name].weight
            for p, s in ((a, 1.0), (b, size / abs(module.scaling[name]))):
                n = torch.from_numpy(rng.standard_normal(tuple(p.shape)).astype(np.float32))
                p.data = (n * s / np.sqrt(p.shape[1])).to(torch.bfloat16).float()


def save(model, name, directory, newer, dtype):
    """What peft saves, in another number format, and with other names."""
    model.save_pretrained(directory, selected_adapters=[name])
    inner = os.path.join(directory, name)
    if name != "default":
        for f in os.listdir(inner):
            shutil.move(os.path.join(inner, f), os.path.join(directory, f))
        os.rmdir(inner)
    path = os.path.join(directory, "adapter_model.safetensors")
    save_file({newer_names(k) if newer else k: v.to(dtype).contiguous() for k, v in load_file(path).items()}, path,
              metadata={"format": "pt"})
    for f in ("README.md",):
        if os.path.exists(os.path.join(directory, f)):
            os.remove(os.path.join(directory, f))


def adapt(ref, adapters):
    """[(name, config, scale, rng, size)]: peft's model around the reference's."""
    model = None
    for name, config, _, rng, size in adapters:
        c = peft.LoraConfig(**config)
        model = peft.get_peft_model(ref.model, c, adapter_name=name) if model is None else model
        if name not in model.peft_config:
            model.add_adapter(name, c)
        randomize(model, name, rng, size)
    model.base_model.set_adapter([a[0] for a in adapters])
    model.eval()
    return model


def set_scales(model, adapters):
    for module in model.modules():
        for name, _, scale, _, _ in adapters:
            if isinstance(getattr(module, "scaling", None), dict) and name in module.scaling:
                module.scaling[name] *= scale


def one(seed, opts):
    rng = np.random.default_rng(seed)
    vision = seed % 4 != 3
    directory = os.path.join(opts.work, f"l{seed}")
    shutil.rmtree(directory, ignore_errors=True)
    cfg = (models.random_mllama_config if vision else models.random_llama_config)(rng)
    models.save_hub(directory, cfg, models.random_weights(cfg, rng))
    ref = Reference(directory)
    cases = [(ref.ids(BOS + "Some words and 12345, as " * n), []) for n in (1, 12)]
    files = []
    if vision:
        for i in range(2):
            img, suffix = pictures.random_picture(rng, cfg["vision_config"]["image_size"])
            f = os.path.join(directory, f"p{i}.{suffix}")
            pictures.save(img, f)
            try:
                ref.pictures([Image.open(f)])
                files.append(f)
            except ValueError as e:
                if "must be > 0" not in str(e):
                    raise
        if files:
            cases.append((ref.ids(BOS + "<|image|>What is it?"), files[:1]))
        if len(files) > 1:
            cases.append((ref.ids(BOS + "Both: <|image|><|image|>what are they?"), files))
    plain = [ref.logits(ids, [Image.open(f) for f in fs]) for ids, fs in cases]
    adapters = []
    for i in range(int(rng.integers(1, 3))):
        c = random_config(rng, vision)
        if not vision and cfg["tie_word_embeddings"] and rng.integers(2):
            c["target_modules"] = [n for n in c["target_modules"] if n != "lm_head"] or ["q_proj"]
        adapters.append(("default" if i == 0 else f"more{i}", c, float(rng.choice([1.0, 0.5, -0.7, 2.0])), rng, opts.size))
    model = adapt(ref, adapters)
    more = []
    for i, (name, _, scale, _, _) in enumerate(adapters):
        d = os.path.join(directory, f"adapter{i}")
        newer = vision and bool(rng.integers(2))
        save(model, name, d, newer, [torch.float32, torch.bfloat16][int(rng.integers(2))])
        more += ["--lora", d if scale == 1 else f"{d}:{scale}"]
    set_scales(model, adapters)
    forms = [("hub", directory, [])]
    if vision:
        text, proj, comb = (os.path.join(directory, n) for n in ("text.gguf", "projector.gguf", "combined.gguf"))
        hub2gguf.write_split(directory, text, proj)
        hub2gguf.write_combined(directory, comb)
        forms += [("split", text, ["--projector", proj]), ("combined", comb, [])]
    else:
        gguf = os.path.join(directory, "llama.gguf")
        hub2gguf.write_llama(directory, gguf)
        forms += [("llama.gguf", gguf, [])]
    worst, moved, bad = {}, 0.0, 0
    for form, path, extra in forms:
        for (ids, fs), before in zip(cases, plain):
            want = ref.logits(ids, [Image.open(f) for f in fs])
            moved = max(moved, float(np.abs(want - before).max()))
            way = [(), ("--chunk", "1"), ("--threads", "1"), ("--chunk", "7", "--threads", "2")][int(rng.integers(4))]
            got = puna.logits(path, ids=ids, images=fs, more=[*extra, *more, *way])["logits"]
            d = float(np.abs(got - want).max())
            key = f"{form} {'picture' if fs else 'text'}"
            worst[key] = max(worst.get(key, 0.0), d)
            bad += not d <= opts.tolerance
        for f in files:
            px, ratio, tiles, rmask = ref.pictures([Image.open(f)])
            want = ref.features(px, ratio, rmask)[:, :int(tiles[0])]
            got = puna.encode(path, [f], more=[*extra, *more])["vision_features"][:, :int(tiles[0])]
            d = float(np.abs(got - want).max())
            worst[f"{form} features"] = max(worst.get(f"{form} features", 0.0), d)
            bad += not d <= opts.tolerance
    targets = [f"r {c['r']}{' rs' if c['use_rslora'] else ''} x{s:g} {len(c['target_modules'])}{' patterns' if len(c) > 4 else ''}"
               for _, c, s, _, _ in adapters]
    print(f"{'FAIL' if bad else 'ok  '} l{seed:<3d} moved {moved:5.1f}  " + "  ".join(f"{k} {v:.1e}" for k, v in worst.items()) +
          f"  [{'; '.join(targets)}]", flush=True)
    if not bad:
        shutil.rmtree(directory)
    return bad, worst


def write(directory):
    """Two small adapters for tiny-b, with what its logits become."""
    base = os.path.join(HERE, "../data/tiny-b")
    ref = Reference(os.path.join(base, "model"))
    rng = np.random.default_rng(7)
    text = r"language_model\.model\.layers\.(0\.self_attn\.[qkv]_proj|1\.cross_attn\.[qko]_proj|2\.mlp\.(up|down)_proj)"
    vision = r"vision_model\.(transformer\.layers\.1|global_transformer\.layers\.0)\.(self_attn\.[qk]_proj|mlp\.fc[12])"
    adapters = [("default", dict(r=4, lora_alpha=8, target_modules=text, rank_pattern={"cross_attn.k_proj": 2},
                                 alpha_pattern={r"layers\.0\..*": 12}), 1.0, rng, 0.5),
                ("pictures", dict(r=2, lora_alpha=4, use_rslora=True, target_modules=rf"{vision}|multi_modal_projector"), 0.5, rng, 1.0)]
    model = adapt(ref, adapters)
    shutil.rmtree(directory, ignore_errors=True)
    for i, (name, *_ ) in enumerate(adapters):
        save(model, name, os.path.join(directory, ("text", "pictures")[i]), i == 1, torch.bfloat16)
        config = os.path.join(directory, ("text", "pictures")[i], "adapter_config.json")
        c = json.load(open(config))
        c["base_model_name_or_path"] = None
        json.dump(c, open(config, "w"), indent=1)
        open(config, "a").write("\n")
    original = copy.deepcopy([dict(m.scaling) if isinstance(getattr(m, "scaling", None), dict) else None for m in model.modules()])
    image = Image.open(os.path.join(base, "images/wide.png"))
    cases = {"text": (ref.ids(BOS + "Words only."), []), "picture": (ref.ids(BOS + "<|image|>What?"), [image])}
    gold, listing = {}, {}
    for which, scales in (("text", [1.0, 0.0]), ("both", [1.0, 0.5])):
        for m, o in zip(model.modules(), original):
            if o is not None:
                m.scaling = {k: v * scales[[a[0] for a in adapters].index(k)] for k, v in o.items()}
        for name, (ids, images) in cases.items():
            gold[f"{which}/{name}/logits"] = np.ascontiguousarray(ref.logits(ids, images))
            listing[name] = ids
    import safetensors.numpy
    safetensors.numpy.save_file(gold, os.path.join(directory, "golden.safetensors"))
    with open(os.path.join(directory, "cases.json"), "w") as f:
        json.dump(dict(peft=peft.__version__, model="tiny-b", image="wide", ids=listing), f)
        f.write("\n")
    for root, _, names in os.walk(directory):
        for n in names:
            print(os.path.join(root, n), os.path.getsize(os.path.join(root, n)))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--count", type=int, default=12)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--size", type=float, default=0.3, help="size of B: how much the adapters change")
    p.add_argument("--work", default="/tmp/oracle-lora")
    p.add_argument("--tolerance", type=float, default=2e-3)
    p.add_argument("--write", metavar="DIR")
    opts = p.parse_args()
    if opts.write:
        return write(opts.write)
    failed, worst = 0, {}
    for s in range(opts.seed, opts.seed + opts.count):
        bad, w = one(s, opts)
        failed += bool(bad)
        for k, v in w.items():
            worst[k] = max(worst.get(k, 0.0), v)
    print(f"{failed} failed; largest: " + "  ".join(f"{k} {v:.2e}" for k, v in sorted(worst.items())))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
