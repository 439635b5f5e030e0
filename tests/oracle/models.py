# SPDX-License-Identifier: Apache-2.0
"""Random models of the Llama 3.2 Vision family (and plain Llama) in hub layout.

What a random model must have so that it can show a mistake: gates away from zero, several local layers with
inner intermediates, at least two cross layers, attention that is not flat, and the unused rows of the tile tables
zero as in the real checkpoints (or, to test the path without the empty-tile reduction, not zero).
Weights are bf16 values of magnitude 0 or >= 2^-14, so BF16, F16 and F32 files hold exactly the same numbers.
"""
import json
import os
import shutil

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, MllamaConfig, MllamaForConditionalGeneration

from ggufio import bf16_bits, bf16_values

RATIOS = [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]]
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
HERE = os.path.dirname(os.path.abspath(__file__))


def tokenizer_dir():
    """Where the small tokenizer is copied from."""
    for d in (os.path.join(HERE, "../data/tiny-a/model"), "/work/shared/conformance/tiny-a/model"):
        if os.path.exists(os.path.join(d, "tokenizer.json")):
            return d
    raise SystemExit("no tiny-a/model/tokenizer.json found")


def mllama_config(*, hidden, heads, kv, layers, cross, ff, v_hidden, v_heads, v_ff, v_local, v_global, inter, tile,
                  eps=1e-5, v_eps=1e-5, scaled=True, theta=500000.0, vocab=528, patch=14):
    return {
        "architectures": ["MllamaForConditionalGeneration"],
        "model_type": "mllama",
        "image_token_index": vocab,
        "torch_dtype": "bfloat16",
        "text_config": {
            "model_type": "mllama_text_model", "vocab_size": vocab, "hidden_size": hidden,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv,
            "intermediate_size": ff, "rope_theta": theta, "rms_norm_eps": eps, "max_position_embeddings": 1024,
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 64} if scaled else {"rope_type": "default"},
            "cross_attention_layers": list(cross), "tie_word_embeddings": False, "hidden_act": "silu",
            "bos_token_id": 512, "eos_token_id": [513, 520, 521], "pad_token_id": 516},
        "vision_config": {
            "model_type": "mllama_vision_model", "image_size": tile, "patch_size": patch, "num_channels": 3,
            "hidden_size": v_hidden, "attention_heads": v_heads, "intermediate_size": v_ff,
            "intermediate_layers_indices": list(inter), "vision_output_dim": v_hidden * (1 + len(inter)),
            "num_hidden_layers": v_local, "num_global_layers": v_global, "max_num_tiles": 4, "norm_eps": v_eps,
            "hidden_act": "gelu", "supported_aspect_ratios": RATIOS},
    }


def random_mllama_config(rng):
    """One of many shapes; every draw is a legal checkpoint."""
    pick = lambda *a: a[int(rng.integers(len(a)))]
    heads, kv, hd = pick((4, 4, 16), (4, 2, 32), (8, 2, 16), (6, 2, 24), (2, 1, 64), (8, 1, 32), (3, 1, 40), (2, 2, 128),
                         (8, 2, 64), (16, 2, 16), (5, 5, 8), (12, 4, 32))
    layers = int(rng.integers(3, 9))
    n_cross = int(rng.integers(1, min(4, layers)))
    cross = sorted(int(i) for i in rng.choice(layers, n_cross, replace=False))
    v_heads, v_hd = pick((2, 16), (4, 8), (2, 80), (1, 32), (3, 24), (4, 20), (2, 40), (1, 64))
    v_local = int(rng.integers(2, 6))
    inter = sorted(int(i) for i in rng.choice(v_local, int(rng.integers(1, min(4, v_local) + 1)), replace=False))
    return mllama_config(hidden=heads * hd, heads=heads, kv=kv, layers=layers, cross=cross,
                         ff=pick(64, 100, 160, 352, 512), v_hidden=v_heads * v_hd, v_heads=v_heads,
                         v_ff=pick(48, 96, 130, 320), v_local=v_local, v_global=int(rng.integers(1, 4)), inter=inter,
                         tile=14 * pick(1, 2, 3, 4, 5, 7), eps=pick(1e-5, 1e-5, 1e-6, 1e-3), scaled=bool(rng.integers(4)),
                         theta=pick(500000.0, 10000.0))


def llama_config(*, hidden, heads, kv, layers, ff, tied, scaled=True, eps=1e-5, theta=500000.0, vocab=528, head_dim=None):
    c = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "vocab_size": vocab,
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv,
        "intermediate_size": ff, "rope_theta": theta, "rms_norm_eps": eps, "max_position_embeddings": 1024,
        "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 64} if scaled else None,
        "tie_word_embeddings": tied, "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
        "bos_token_id": 512, "eos_token_id": [513, 520, 521], "pad_token_id": 516}
    if head_dim:
        c["head_dim"] = head_dim
    return c


def random_llama_config(rng):
    pick = lambda *a: a[int(rng.integers(len(a)))]
    heads, kv, hd = pick((4, 4, 16), (4, 2, 32), (8, 2, 16), (6, 2, 24), (2, 1, 64), (3, 1, 40), (8, 2, 64))
    return llama_config(hidden=heads * hd, heads=heads, kv=kv, layers=int(rng.integers(1, 6)), ff=pick(64, 100, 160, 352),
                        tied=bool(rng.integers(2)), scaled=bool(rng.integers(4)), eps=pick(1e-5, 1e-6),
                        theta=pick(500000.0, 10000.0))


def _exact(x):
    """The nearest bf16 value; what would be subnormal in F16 becomes zero."""
    x = bf16_values(bf16_bits(x))
    return np.where(np.abs(x) < 2.0 ** -14, 0, x).astype(np.float32)


def random_weights(cfg, rng, zero_unused=True):
    """name -> float32 array; shapes come from transformers' own modules."""
    with torch.device("meta"):
        if cfg["model_type"] == "mllama":
            model = MllamaForConditionalGeneration(MllamaConfig.from_dict(cfg))
        else:
            model = LlamaForCausalLM(LlamaConfig.from_dict(cfg))
    out = {}
    for name, t in model.state_dict().items():
        shape = tuple(t.shape)
        if name == "lm_head.weight" and cfg.get("tie_word_embeddings"):
            continue
        leaf = name.rsplit(".", 1)[-1]
        n = rng.standard_normal(shape).astype(np.float32)
        if "gate" in leaf:  # gate, gate_attn, gate_ffn, cross_attn_attn_gate, cross_attn_mlp_gate
            w = np.sign(n) * rng.uniform(0.4, 1.6, shape)
        elif "layernorm" in name or name.endswith("norm.weight"):
            w = 0.2 * n + (1.0 if leaf == "weight" else 0.0)
        elif leaf == "bias":
            w = 0.2 * n
        elif "positional_embedding" in name:
            w = 0.5 * n
        elif "embed_tokens" in name or "class_embedding" in name:
            w = n * (1.6 / np.sqrt(shape[-1]) if cfg.get("tie_word_embeddings") else 1.0)
        else:
            fan_in = int(np.prod(shape[1:]))
            gain = 1.6 if ("q_proj" in name or "k_proj" in name or "lm_head" in name) else 1.0
            w = n * gain / np.sqrt(fan_in)
        if "tile_embedding" in name or "tile_positional_embedding.embedding" in name:
            tiles = cfg["vision_config"]["max_num_tiles"]
            if zero_unused:
                t4 = w.reshape(shape[0], tiles, -1)
                t4[0] = 0
                for i, (h, v) in enumerate(RATIOS):
                    t4[i + 1, h * v:] = 0
        out[name] = _exact(w)
    return out


def save_hub(directory, cfg, weights, shards=1):
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "config.json"), "w") as f:
        json.dump(cfg, f, indent=1)
    names = list(weights)
    tensors = {k: torch.from_numpy(weights[k]).to(torch.bfloat16).contiguous() for k in names}
    if shards == 1:
        save_file(tensors, os.path.join(directory, "model.safetensors"), metadata={"format": "pt"})
    else:
        per, index = -(-len(names) // shards), {}
        for s in range(shards):
            part = names[s * per:(s + 1) * per]
            fname = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
            save_file({k: tensors[k] for k in part}, os.path.join(directory, fname), metadata={"format": "pt"})
            index.update({k: fname for k in part})
        with open(os.path.join(directory, "model.safetensors.index.json"), "w") as f:
            json.dump({"metadata": {"total_size": sum(t.numel() * 2 for t in tensors.values())}, "weight_map": index}, f,
                      indent=1)
    text = cfg.get("text_config", cfg)
    with open(os.path.join(directory, "generation_config.json"), "w") as f:
        json.dump({"bos_token_id": text["bos_token_id"], "eos_token_id": text["eos_token_id"],
                   "pad_token_id": text["pad_token_id"], "do_sample": True, "temperature": 0.6, "top_p": 0.9}, f, indent=1)
    if "vision_config" in cfg:
        s = cfg["vision_config"]["image_size"]
        with open(os.path.join(directory, "preprocessor_config.json"), "w") as f:
            json.dump({"do_convert_rgb": True, "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True,
                       "image_mean": MEAN, "image_std": STD, "image_processor_type": "MllamaImageProcessor",
                       "max_image_tiles": cfg["vision_config"]["max_num_tiles"], "resample": 2,
                       "rescale_factor": 0.00392156862745098, "size": {"height": s, "width": s}}, f, indent=1)
    for f in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(os.path.join(tokenizer_dir(), f), os.path.join(directory, f))
    if "vision_config" not in cfg:  # text models have no <|image|>
        path = os.path.join(directory, "tokenizer.json")
        t = json.load(open(path))
        t["added_tokens"] = [a for a in t["added_tokens"] if a["id"] < cfg["vocab_size"]]
        json.dump(t, open(path, "w"))
        path = os.path.join(directory, "tokenizer_config.json")
        t = json.load(open(path))
        t["added_tokens_decoder"] = {i: a for i, a in t["added_tokens_decoder"].items() if int(i) < cfg["vocab_size"]}
        json.dump(t, open(path, "w"), indent=1)
