#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""puna perplexity and puna imatrix against transformers: perplexity, KL divergence and importance sums from its logits
and from hooks on its matrices, for tiny-a and for tiny-a with noise on the weights; text and conversations."""
import json
import os
import shutil
import sys
import tempfile

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import ggufio
import puna
from reference import Reference, load_safetensors

HERE = os.path.dirname(os.path.abspath(__file__))
A = os.path.join(HERE, "..", "data", "tiny-a")
CTX = 64
TEMPLATE = os.path.join(HERE, "..", "data", "llama3.2-vision-instruct.chat_template.jinja")
RECORDS = [
    {"image": "wide.png", "prompt": "What is it?", "answer": "A wide one."},
    {"question": "Only text?", "answer": "Yes, only text this time."},
    {"images": ["square.png", "tall.png"], "prompt": "Compare the two, please.", "answer": "One is tall."},
    {"images": ["square.png"], "prompt": "Again.", "answer": "x"},
]


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def pieces(ref, text=None):
    """(ids, names of pictures, first predicted position) of every piece."""
    if text is not None:
        ids = [512] + ref.ids(text)
        for i in range(len(ids) // CTX):
            yield [512] + ids[i * CTX + 1:(i + 1) * CTX], [], CTX // 2 + 1
        return
    for r in RECORDS:
        names = r.get("images", [r["image"]] if "image" in r else [])
        prompt = r.get("prompt", r.get("question"))
        content = [{"type": "image"}] * len(names) + [{"type": "text", "text": prompt}] if names else prompt
        head = ref.ids(ref.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], chat_template=open(TEMPLATE).read(), tokenize=False,
            add_generation_prompt=True, date_string="26 Jul 2024", bos_token="<|begin_of_text|>"))
        tail = ref.ids(r["answer"]) + [521]
        yield head + tail, names, len(head)


def load(names):
    return [Image.open(os.path.join(A, "images", n)) for n in names]


def ctx(text):
    return ["--ctx", CTX] if text is not None else []


def predictions(ref, text):
    """log-probabilities [n][vocabulary] and the tokens that came."""
    rows, targets = [], []
    for ids, names, first in pieces(ref, text):
        rows.append(log_softmax(ref.logits(ids, load(names)))[first - 1:-1])
        targets += ids[first:]
    return np.concatenate(rows), np.array(targets)


def expected(p, q, targets, most):
    """What puna should say when q is compared with the base p."""
    at = np.arange(len(targets))
    nll, base = -q[at, targets], -p[at, targets]
    kl = np.zeros(len(targets))
    for i in range(len(targets)):
        top = np.lexsort((np.arange(p.shape[1]), -p[i]))
        mass = np.cumsum(np.exp(p[i][top]))
        n = min(most, int(np.argmax(1 - mass < 1e-6)) + 1 if (1 - mass < 1e-6).any() else most)
        top = top[:n]
        kl[i] = (np.exp(p[i][top]) * (p[i][top] - q[i][top])).sum()
        rest = 1 - np.exp(p[i][top]).sum()
        if n < p.shape[1]:
            kl[i] += rest * np.log(rest / (1 - np.exp(q[i][top]).sum()))
    dp = np.exp(-nll) - np.exp(-base)
    sem = lambda v: v.std() / np.sqrt(len(v) - 1)
    return {"perplexity.value": np.exp(nll.mean()), "perplexity.error": np.exp(nll.mean()) * sem(nll),
            "base_perplexity.value": np.exp(base.mean()), "log_ratio.value": (nll - base).mean(),
            "log_ratio.error": sem(nll - base), "kl.value": kl.mean(), "kl.error": sem(kl),
            "kl.median": np.median(kl), "kl.p90": np.percentile(kl, 90), "kl.p99": np.percentile(kl, 99),
            "kl.max": kl.max(), "same_top.value": (p.argmax(1) == q.argmax(1)).mean(),
            "rms_delta_p.value": np.sqrt((dp ** 2).mean())}


def check(label, got, want, tolerance):
    bad = 0
    for k, w in want.items():
        g = got
        for part in k.split(".", 1):
            g = g[part]
        d = abs(g - w) / max(abs(w), 1e-9)
        if not d <= tolerance:
            print(f"FAIL {label} {k}: {g!r}, not {w!r}")
            bad += 1
    print(f"{'FAIL' if bad else 'ok  '} {label}: perplexity {got['perplexity']['value']:.6f}, within {tolerance}")
    return bad


def perplexity(base_model, model, base, other, data, text, d):
    bad = 0
    p, targets = predictions(base, text)
    q, _ = predictions(other, text)
    for most in (p.shape[1], 64):
        file = os.path.join(d, "base")
        puna.call("perplexity", "-m", base_model, data, *ctx(text), "--precise", "--save-base", file, "--base-top",
                  most)
        got = json.loads(puna.call("perplexity", "-m", model, data, *ctx(text), "--precise", "--kl-base", file,
                                   "--json").stdout)
        size = os.path.getsize(file)
        label = f"{os.path.basename(data)}, {most} tokens, {size / len(targets):.0f} bytes a position"
        bad += check(label, got, expected(p, q, targets, most), 1e-3)
        full = (np.exp(p) * (p - q)).sum(1).mean()
        print(f"     whole divergence {full:.6g}, puna {got['kl']['value']:.6g}")
    return bad


HUB = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
       "self_attn.o_proj": "attn_output", "cross_attn.q_proj": "cross_attn_q_proj",
       "cross_attn.k_proj": "cross_attn_k_proj", "cross_attn.v_proj": "cross_attn_v_proj",
       "cross_attn.o_proj": "cross_attn_o_proj", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
       "mlp.down_proj": "ffn_down", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down"}


def gguf_name(name):
    if name in ("multi_modal_projector", "language_model.lm_head"):
        return "mm.0.weight" if name.startswith("multi") else "output.weight"
    stack, rest = name.split(".layers.")
    i, what = rest.split(".", 1)
    front = {"language_model.model": "blk", "vision_model.transformer": "v.blk",
             "vision_model.global_transformer": "v.global.blk"}[stack]
    return f"{front}.{i}.{HUB[what]}.weight"


def sums(ref, text):
    """Sums of squares and row counts by GGUF name: rows that puna computes (tokens that see a picture in the cross
    layers, real tiles), by hooks on every linear layer."""
    out, now = {}, {}
    v = ref.config.vision_config
    n_pos = (v.image_size // v.patch_size) ** 2 + 1

    def fresh(x):
        """Real tiles of pictures that puna has not encoded before."""
        return np.concatenate([np.zeros((0, x.shape[-1]))] + [x[j, :t].reshape(-1, x.shape[-1]) for j, t
                                                              in enumerate(now["tiles"]) if now["fresh"][j]])

    def rows(name, x):
        x = x.detach().double().numpy().reshape(-1, x.shape[-1])
        if name.startswith("vision_model."):
            padded = (n_pos + 7) // 8 * 8
            x = x.reshape(-1, v.max_num_tiles, padded, x.shape[-1])[:, :, :n_pos]
            return fresh(x)
        if name == "multi_modal_projector" or ".cross_attn.k_" in name or ".cross_attn.v_" in name:
            x = x.reshape(-1, v.max_num_tiles, n_pos, x.shape[-1])
            return fresh(x)
        if now["cross"].get(".".join(name.split(".")[:4])):
            return x[now["first"]:]
        return x

    def hook(name):
        def see(module, args):
            x = rows(name, args[0])
            s, n = out.get(gguf_name(name), (0, 0))
            out[gguf_name(name)] = (s + (x ** 2).sum(0), n + len(x))
        return see

    handles = [m.register_forward_pre_hook(hook(n)) for n, m in ref.model.named_modules()
               if isinstance(m, torch.nn.Linear) and "tile" not in n]
    now["cross"] = {f"language_model.model.layers.{i}": True for i in ref.config.text_config.cross_attention_layers}
    encoded = set()
    for ids, names, _ in pieces(ref, text):
        images = load(names)
        now["first"] = ids.index(ref.image_token) if images else len(ids)
        now["fresh"] = [n not in encoded for n in names]
        encoded |= set(names)
        if images:
            now["tiles"] = ref.pictures(images)[2]
        ref.logits(ids, images)
    for h in handles:
        h.remove()
    return out


def imatrix(ref, data, text, d):
    file = os.path.join(d, os.path.basename(data) + ".gguf")
    puna.call("imatrix", "-m", os.path.join(A, "model"), data, *ctx(text), "--precise", "-o", file)
    reader = ggufio.Reader(file)
    got = {n: reader.array(n) for n in reader.tensors}
    want = sums(ref, text)
    names = {n[:-8] for n in got if n.endswith(".in_sum2")} - {"v.patch_embd.weight"}
    bad, worst = names != set(want), 0.0
    if bad:
        print("names", sorted(names ^ set(want)))
    for n in names & set(want):
        s, count = want[n]
        if int(got[n + ".counts"].ravel()[0]) != count:
            print(f"FAIL {n}: {got[n + '.counts'].ravel()[0]} rows, not {count}")
            bad += 1
        else:
            worst = max(worst, float(np.abs(got[n + ".in_sum2"].ravel() / s - 1).max()))
    bad += not worst <= 1e-3
    print(f"{'FAIL' if bad else 'ok  '} imatrix {os.path.basename(data)}: {len(names)} matrices, {worst:.1e} off")
    return bad


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as d:
        noisy = os.path.join(d, "noisy")
        shutil.copytree(os.path.join(A, "model"), noisy, ignore=shutil.ignore_patterns("*.safetensors*"))
        torch.manual_seed(1)
        weights = load_safetensors(os.path.join(A, "model"))
        changed = {k: (w * (1 + 0.05 * torch.randn_like(w)) if "proj" in k else w).bfloat16().float()
                   for k, w in weights.items()}
        save_file({k: w.bfloat16().contiguous() for k, w in changed.items()}, os.path.join(noisy, "model.safetensors"))
        base, other = Reference(os.path.join(A, "model")), Reference(noisy, changed)
        text = open(os.path.join(HERE, "..", "..", "README.md"), encoding="utf-8").read()[:1500]
        plain, talk = os.path.join(d, "text.txt"), os.path.join(d, "talk.jsonl")
        with open(plain, "w", encoding="utf-8") as f:
            f.write(text)
        os.symlink(os.path.abspath(os.path.join(A, "images")), os.path.join(d, "images"))
        with open(talk, "w", encoding="utf-8") as f:
            for r in RECORDS:
                r = dict(r)
                if "image" in r:
                    r["image"] = "images/" + r["image"]
                if "images" in r:
                    r["images"] = ["images/" + i for i in r["images"]]
                f.write(json.dumps(r) + "\n")
        for data, t in ((plain, text), (talk, None)):
            failed += perplexity(os.path.join(A, "model"), noisy, base, other, data, t, d)
            failed += imatrix(base, data, t, d)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
