# SPDX-License-Identifier: Apache-2.0
"""Hub directory -> GGUF in Ollama's layouts, and GGUF -> hub names and values.

The names and value transforms are the ones described in Ollama's converter (combined) and in its old C++ loader
(split): split MLP names are swapped, vision gates are stored after tanh, text q/k rows are interleaved.
"""
import json
import os

import numpy as np
from safetensors import safe_open

import ggufio as g


def interleave(w, heads):
    """Rows of q or k from half-split to interleaved RoPE order: out[2j+s] = in[s*hd/2+j] in every head."""
    return w.reshape(heads, 2, -1, w.shape[-1]).swapaxes(1, 2).reshape(w.shape)


def deinterleave(w, heads):
    return w.reshape(heads, -1, 2, w.shape[-1]).swapaxes(1, 2).reshape(w.shape)


def load(directory):
    w = {}
    for f in sorted(os.listdir(directory)):
        if f.endswith(".safetensors"):
            with safe_open(os.path.join(directory, f), "pt") as s:
                for k in s.keys():
                    w[k] = s.get_tensor(k).float().numpy()
    return json.load(open(os.path.join(directory, "config.json"))), w


def rope_factors(text):
    s = text.get("rope_scaling")
    if not s or s["rope_type"] == "default":
        return None
    dim = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
    orig, low, high = s["original_max_position_embeddings"], s["low_freq_factor"], s["high_freq_factor"]
    out = []
    for i in range(0, dim, 2):
        wave = 2 * np.pi * text["rope_theta"] ** (i / dim)
        if wave < orig / high:
            out.append(1.0)
        elif wave > orig / low:
            out.append(s["factor"])
        else:
            t = (orig / wave - low) / (high - low)
            out.append(1 / ((1 - t) / s["factor"] + t))
    return np.array(out, np.float32)


def tokenizer_kv(w, directory, add_bos):
    t = json.load(open(os.path.join(directory, "tokenizer.json")))
    vocab = {i: s for s, i in t["model"]["vocab"].items()}
    types = {i: 1 for i in vocab}
    special = {}
    for a in t["added_tokens"]:
        vocab[a["id"]] = a["content"]
        types[a["id"]] = 3 if a["special"] else 4
        special[a["content"]] = a["id"]
    n = max(vocab) + 1
    merges = [m if isinstance(m, str) else " ".join(m) for m in t["model"]["merges"]]
    w.add("tokenizer.ggml.add_bos_token", g.BOOL, add_bos)
    w.add("tokenizer.ggml.model", g.STR, "gpt2")
    w.add("tokenizer.ggml.pre", g.STR, "llama-bpe")
    w.add("tokenizer.ggml.tokens", (g.ARR, g.STR), [vocab[i] for i in range(n)])
    w.add("tokenizer.ggml.token_type", (g.ARR, g.I32), [types[i] for i in range(n)])
    w.add("tokenizer.ggml.merges", (g.ARR, g.STR), merges)
    w.add("tokenizer.ggml.bos_token_id", g.U32, special["<|begin_of_text|>"])
    w.add("tokenizer.ggml.eos_token_id", g.U32, special["<|eot_id|>"])
    if "<|finetune_right_pad_id|>" in special:
        w.add("tokenizer.ggml.padding_token_id", g.U32, special["<|finetune_right_pad_id|>"])


def text_kv(w, arch, text, cross=None):
    hd = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
    w.add(f"{arch}.block_count", g.U32, text["num_hidden_layers"])
    w.add(f"{arch}.context_length", g.U32, text["max_position_embeddings"])
    w.add(f"{arch}.embedding_length", g.U32, text["hidden_size"])
    w.add(f"{arch}.feed_forward_length", g.U32, text["intermediate_size"])
    w.add(f"{arch}.attention.head_count", g.U32, text["num_attention_heads"])
    w.add(f"{arch}.attention.head_count_kv", g.U32, text["num_key_value_heads"])
    w.add(f"{arch}.rope.freq_base", g.F32, text["rope_theta"])
    w.add(f"{arch}.attention.layer_norm_rms_epsilon", g.F32, text["rms_norm_eps"])
    w.add("general.file_type", g.U32, 1)
    w.add(f"{arch}.vocab_size", g.U32, text["vocab_size"])
    w.add(f"{arch}.rope.dimension_count", g.U32, hd)
    if cross is not None:
        w.add(f"{arch}.attention.cross_attention_layers", (g.ARR, g.I32), cross)


TEXT = {"self_attn.q_proj.weight": "attn_q.weight", "self_attn.k_proj.weight": "attn_k.weight",
        "self_attn.v_proj.weight": "attn_v.weight", "self_attn.o_proj.weight": "attn_output.weight",
        "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight",
        "mlp.down_proj.weight": "ffn_down.weight", "input_layernorm.weight": "attn_norm.weight",
        "post_attention_layernorm.weight": "ffn_norm.weight",
        "cross_attn.q_proj.weight": "cross_attn_q_proj.weight", "cross_attn.k_proj.weight": "cross_attn_k_proj.weight",
        "cross_attn.v_proj.weight": "cross_attn_v_proj.weight", "cross_attn.o_proj.weight": "cross_attn_o_proj.weight",
        "cross_attn.q_norm.weight": "cross_attn_q_norm.weight", "cross_attn.k_norm.weight": "cross_attn_k_norm.weight",
        "cross_attn_attn_gate": "cross_attn_attn_gate", "cross_attn_mlp_gate": "cross_attn_mlp_gate"}
VISION_TOP = {"class_embedding": "v.class_embd", "patch_embedding.weight": "v.patch_embd.weight",
              "gated_positional_embedding.embedding": "v.position_embd.weight",
              "gated_positional_embedding.tile_embedding.weight": "v.tile_position_embd.weight",
              "pre_tile_positional_embedding.embedding.weight": "v.pre_tile_position_embd.weight",
              "pre_tile_positional_embedding.gate": "v.pre_tile_position_embd.gate",
              "post_tile_positional_embedding.embedding.weight": "v.post_tile_position_embd.weight",
              "post_tile_positional_embedding.gate": "v.post_tile_position_embd.gate",
              "layernorm_pre.weight": "v.pre_ln.weight", "layernorm_pre.bias": "v.pre_ln.bias",
              "layernorm_post.weight": "v.post_ln.weight", "layernorm_post.bias": "v.post_ln.bias"}
SPLIT = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_out", "mlp.fc1": "ffn_down", "mlp.fc2": "ffn_up", "input_layernorm": "ln1",
         "post_attention_layernorm": "ln2", "gate_attn": "attn_gate", "gate_ffn": "ffn_gate"}
COMBINED = dict(SPLIT, **{"self_attn.o_proj": "attn_output", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down",
                          "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"})
F32_TABLES = ("v.tile_position_embd.weight", "v.pre_tile_position_embd.weight", "v.post_tile_position_embd.weight")


def put(w, name, a):
    w.tensor(name, a, g.T_F32 if a.ndim == 1 or name in F32_TABLES else g.T_F16)


def text_tensors(w, weights, text, cross_permuted=True):
    """weights: names without the language_model. prefix."""
    heads, kv = text["num_attention_heads"], text["num_key_value_heads"]
    factors = rope_factors(text)
    if factors is not None:
        put(w, "rope_freqs.weight", factors)
    put(w, "token_embd.weight", weights["model.embed_tokens.weight"])
    if "lm_head.weight" in weights:
        put(w, "output.weight", weights["lm_head.weight"])
    put(w, "output_norm.weight", weights["model.norm.weight"])
    for i in range(text["num_hidden_layers"]):
        for src, dst in TEXT.items():
            a = weights.get(f"model.layers.{i}.{src}")
            if a is None:
                continue
            if src.endswith(("q_proj.weight", "k_proj.weight")) and (cross_permuted or not src.startswith("cross")):
                a = interleave(a, heads if "q_proj" in src else kv)
            put(w, f"blk.{i}.{dst}", a)


def vision_tensors(w, weights, cfg, names, permute):
    v = cfg["vision_config"]
    pre = "vision_model."
    for src, dst in VISION_TOP.items():
        a = weights[pre + src]
        put(w, dst, np.tanh(a) if dst.endswith(".gate") else a)
    gate = np.tanh(weights[pre + "gated_positional_embedding.gate"])
    put(w, "v.position_embd.gate", 1 - gate)
    put(w, "v.tile_position_embd.gate", gate)
    for part, blk, n in (("transformer.layers", "v.blk", v["num_hidden_layers"]),
                         ("global_transformer.layers", "v.global.blk", v["num_global_layers"])):
        for i in range(n):
            for src, dst in names.items():
                for suffix in (".weight", ".bias", ""):
                    a = weights.get(f"{pre}{part}.{i}.{src}{suffix}")
                    if a is None:
                        continue
                    if src.startswith("gate"):
                        a = np.tanh(a)
                    if permute and dst in ("attn_q", "attn_k"):
                        a = interleave(a, v["attention_heads"])
                    put(w, f"{blk}.{i}.{dst}{suffix}", a)
    put(w, "mm.0.weight", weights["multi_modal_projector.weight"])
    put(w, "mm.0.bias", weights["multi_modal_projector.bias"])


def vision_kv(w, v):
    for key, name in (("block_count", "num_hidden_layers"), ("global.block_count", "num_global_layers"),
                      ("embedding_length", "hidden_size"), ("feed_forward_length", "intermediate_size"),
                      ("attention.head_count", "attention_heads"), ("image_size", "image_size"),
                      ("patch_size", "patch_size"), ("max_num_tiles", "max_num_tiles"), ("num_channels", "num_channels")):
        w.add(f"mllama.vision.{key}", g.U32, v[name])
    w.add("mllama.vision.attention.layer_norm_epsilon", g.F32, v["norm_eps"])
    w.add("mllama.vision.intermediate_layers_indices", (g.ARR, g.I32), v["intermediate_layers_indices"])


def strip(weights):
    return {k.removeprefix("language_model."): a for k, a in weights.items()}


def write_split(directory, text_path, projector_path, cross_permuted=True):
    cfg, weights = load(directory)
    text = cfg["text_config"]
    w = g.Writer()
    w.add("general.architecture", g.STR, "mllama")
    w.add("general.type", g.STR, "model")
    w.add("general.name", g.STR, "Model")
    w.add("general.size_label", g.STR, "tiny")
    text_kv(w, "mllama", text, text["cross_attention_layers"])
    tokenizer_kv(w, directory, True)
    w.add("general.quantization_version", g.U32, 2)
    text_tensors(w, strip(weights), text, cross_permuted)
    w.write(text_path)
    p = g.Writer()
    p.add("general.architecture", g.STR, "mllama")
    p.add("general.description", g.STR, "vision encoder for Mllama")
    p.add("general.name", g.STR, "Model")
    p.add("general.file_type", g.U32, 1)
    vision_kv(p, cfg["vision_config"])
    p.add("mllama.vision.projection_dim", g.U32, text["hidden_size"])
    vision_tensors(p, weights, cfg, SPLIT, permute=False)
    p.write(projector_path)


def write_combined(directory, path):
    cfg, weights = load(directory)
    text = cfg["text_config"]
    w = g.Writer()
    w.add("general.architecture", g.STR, "mllama")
    text_kv(w, "mllama", text, text["cross_attention_layers"])
    vision_kv(w, cfg["vision_config"])
    tokenizer_kv(w, directory, False)
    w.add("tokenizer.ggml.eos_token_ids", (g.ARR, g.I32), text["eos_token_id"])
    w.add("general.quantization_version", g.U32, 2)
    text_tensors(w, strip(weights), text, True)
    vision_tensors(w, weights, cfg, COMBINED, permute=True)
    w.write(path)


def write_llama(directory, path):
    """Plain text `llama` architecture, as llama.cpp's and Ollama's converters write it."""
    cfg, weights = load(directory)
    w = g.Writer()
    w.add("general.architecture", g.STR, "llama")
    text_kv(w, "llama", cfg)
    tokenizer_kv(w, directory, True)
    text_tensors(w, weights, cfg)
    w.write(path)


def hub_weights(paths, cfg):
    """Values of one or two GGUF files (dequantised) under hub names: what transformers must compute with. Which layout
    it is shows in the names; cross-attention rows are taken as permuted."""
    out = {}
    text = cfg.get("text_config", cfg)
    heads, kv = text["num_attention_heads"], text["num_key_value_heads"]
    prefix = "language_model." if "text_config" in cfg else ""
    back_text = {v: k for k, v in TEXT.items()}
    back_top = {v: k for k, v in VISION_TOP.items()}
    for path in paths:
        r = g.Reader(path)
        combined = "v.blk.0.attn_output.weight" in r.tensors
        back = {v: k for k, v in (COMBINED if combined else SPLIT).items()}
        for name in r.tensors:
            if name in ("rope_freqs.weight", "v.position_embd.gate"):
                continue
            a = r.array(name)
            if name == "token_embd.weight":
                out[prefix + "model.embed_tokens.weight"] = a
            elif name == "output.weight":
                out[prefix + "lm_head.weight"] = a
            elif name == "output_norm.weight":
                out[prefix + "model.norm.weight"] = a
            elif name.startswith("mm.0."):
                out["multi_modal_projector." + name[5:]] = a
            elif name == "v.tile_position_embd.gate":
                out["vision_model.gated_positional_embedding.gate"] = np.arctanh(a)
            elif name in back_top:
                out["vision_model." + back_top[name]] = np.arctanh(a) if name.endswith(".gate") else a
            elif name.startswith("v."):
                part = "global_transformer" if name.startswith("v.global") else "transformer"
                i, leaf = name.split("blk.")[1].split(".", 1)
                stem, dot, suffix = leaf.partition(".")
                if stem in ("attn_gate", "ffn_gate"):
                    a = np.arctanh(a)
                elif combined and stem in ("attn_q", "attn_k"):
                    a = deinterleave(a, cfg["vision_config"]["attention_heads"])
                out[f"vision_model.{part}.layers.{i}.{back[stem]}{dot}{suffix}"] = a
            else:
                _, i, leaf = name.split(".", 2)
                hub = back_text[leaf]
                if hub.endswith(("q_proj.weight", "k_proj.weight")):
                    a = deinterleave(a, heads if "q_proj" in hub else kv)
                out[f"{prefix}model.layers.{i}.{hub}"] = a
    return out
