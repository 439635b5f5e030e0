# SPDX-License-Identifier: Apache-2.0
"""The network, under the hub's tensor names, in the few operations that training on a CPU needs.

The same numbers as transformers' mllama (check.py), with two exact savings: empty tiles and the rows that fill a tile
up to a multiple of 8 are computed once and counted in the softmax by log(multiplicity); and only the tiles that
exist go on to the text. Rows before the first picture pass the cross layers untouched, as in Meta's reference.
"""
import math

import torch
import torch.nn.functional as F

from generate import MARKS, RATIOS, TILE
from vocabulary import BOS, IDS, IMAGE, PAD, VOCAB

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

CONFIG = {
    "architectures": ["MllamaForConditionalGeneration"], "model_type": "mllama", "image_token_index": IMAGE,
    "torch_dtype": "float32",
    "text_config": {
        "model_type": "mllama_text_model", "vocab_size": VOCAB, "hidden_size": 256, "num_hidden_layers": 7,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 512, "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5, "max_position_embeddings": 2048,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 256},
        "cross_attention_layers": [1, 3, 5], "tie_word_embeddings": False, "hidden_act": "silu", "bos_token_id": BOS,
        "eos_token_id": [IDS["<|end_of_text|>"], IDS["<|eom_id|>"], IDS["<|eot_id|>"]], "pad_token_id": PAD},
    "vision_config": {
        "model_type": "mllama_vision_model", "image_size": TILE, "patch_size": 16, "num_channels": 3, "hidden_size": 256,
        "attention_heads": 4, "intermediate_size": 768, "intermediate_layers_indices": [1, 3], "vision_output_dim": 768,
        "num_hidden_layers": 4, "num_global_layers": 2, "max_num_tiles": 4, "norm_eps": 1e-5, "hidden_act": "gelu",
        "supported_aspect_ratios": [list(r) for r in RATIOS]},
}
T, V = CONFIG["text_config"], CONFIG["vision_config"]
D, VD, HEADS, KV, VHEADS = T["hidden_size"], V["hidden_size"], T["num_attention_heads"], T["num_key_value_heads"], V["attention_heads"]
HD, VHD, CROSS = D // HEADS, VD // VHEADS, set(T["cross_attention_layers"])
GRID = TILE // V["patch_size"]
P = GRID * GRID + 1
FILL = -P % 8
INTER = V["intermediate_layers_indices"]
LM, VM = "language_model.", "vision_model."
TABLES = {VM + "gated_positional_embedding.tile_embedding.weight": P * VD,
          VM + "pre_tile_positional_embedding.embedding.weight": VD, VM + "post_tile_positional_embedding.embedding.weight": VD}


def shapes():
    s = {VM + "class_embedding": [VD], VM + "patch_embedding.weight": [VD, 3, V["patch_size"], V["patch_size"]],
         VM + "gated_positional_embedding.gate": [1], VM + "gated_positional_embedding.embedding": [P, VD]}
    s.update({k: [len(RATIOS) + 1, 4 * n] for k, n in TABLES.items()})
    for k in ("pre", "post"):
        s.update({f"{VM}{k}_tile_positional_embedding.gate": [1], f"{VM}layernorm_{k}.weight": [VD], f"{VM}layernorm_{k}.bias": [VD]})
    for part, n in (("transformer", V["num_hidden_layers"]), ("global_transformer", V["num_global_layers"])):
        for i in range(n):
            b = f"{VM}{part}.layers.{i}."
            s.update({f"{b}self_attn.{x}_proj.weight": [VD, VD] for x in "qkvo"})
            s.update({b + "mlp.fc1.weight": [V["intermediate_size"], VD], b + "mlp.fc1.bias": [V["intermediate_size"]],
                      b + "mlp.fc2.weight": [VD, V["intermediate_size"]], b + "mlp.fc2.bias": [VD]})
            for ln in ("input_layernorm", "post_attention_layernorm"):
                s.update({f"{b}{ln}.weight": [VD], f"{b}{ln}.bias": [VD]})
            if part == "global_transformer":
                s.update({b + "gate_attn": [1], b + "gate_ffn": [1]})
    s.update({"multi_modal_projector.weight": [D, V["vision_output_dim"]], "multi_modal_projector.bias": [D],
              LM + "model.embed_tokens.weight": [VOCAB + 8, D], LM + "model.norm.weight": [D], LM + "lm_head.weight": [VOCAB, D]})
    for i in range(T["num_hidden_layers"]):
        b = f"{LM}model.layers.{i}."
        a = b + ("cross_attn." if i in CROSS else "self_attn.")
        s.update({a + "q_proj.weight": [D, D], a + "k_proj.weight": [KV * HD, D], a + "v_proj.weight": [KV * HD, D],
                  a + "o_proj.weight": [D, D], b + "mlp.gate_proj.weight": [T["intermediate_size"], D],
                  b + "mlp.up_proj.weight": [T["intermediate_size"], D], b + "mlp.down_proj.weight": [D, T["intermediate_size"]],
                  b + "input_layernorm.weight": [D], b + "post_attention_layernorm.weight": [D]})
        if i in CROSS:
            s.update({a + "q_norm.weight": [HD], a + "k_norm.weight": [HD], b + "cross_attn_attn_gate": [1], b + "cross_attn_mlp_gate": [1]})
    return s


PLACE = VHD  # how many of the encoder's features start as the place of a patch; the others start as what is in it
WAVES = 2 * math.pi / torch.logspace(math.log10(2.2), math.log10(24), PLACE // 4)
NEAR = [[(0, -1), (0, 1), (-1, 0), (1, 0)], [(0, -1), (0, 1), (-1, 0), (1, 0)], [(0, -2), (0, 2), (0, -1), (0, 1)]]


def waves(at):
    """[n, 2] places in patches -> [n, PLACE]: sines, then cosines, of 16 wavelengths for y and for x."""
    a = (at[:, :, None] * WAVES).flatten(1)
    return math.sqrt(2) * torch.cat([a.sin(), a.cos()], 1)


def filters(g):
    """[VD, 3, S, S]: the low frequencies of a patch, brought to about the same size each, mixed; nothing for the places."""
    n, content = V["patch_size"], VD - PLACE
    k = torch.arange(n).float()
    cos = torch.cos(math.pi * (k + 0.5) * k[:, None] / n) * math.sqrt(2 / n)
    cos[0] /= math.sqrt(2)
    pairs = sorted(((u + 1) * (v + 1), u, v) for u in range(n) for v in range(n))
    w = []
    for hue, size, many in (((1, 1, 1), 16, content // 2), ((1, -1, 0), 4, content // 4), ((1, 1, -2), 4, content // 4)):
        hue = torch.tensor(hue).float()
        for far, u, v in pairs[:many]:
            usual = 60 if far == 1 and size == 16 else size / far  # what such a coefficient measures in these pictures
            w.append((hue / hue.norm())[:, None, None] * torch.outer(cos[u], cos[v]) * 0.8 * usual ** -0.8)
    turn = torch.linalg.qr(torch.randn(content, content, generator=g))[0]
    return F.pad((turn @ torch.stack(w).flatten(1)).view(content, 3, n, n), (0, 0, 0, 0, 0, 0, 0, PLACE))


def neighbours(steps, g):
    """q and k weights with which head h starts by looking one of `steps` further, by the angle between two places."""
    q, k = (0.1 * torch.randn(VD, VD, generator=g) / math.sqrt(VD) for _ in range(2))
    half = PLACE // 2
    for h, step in enumerate(steps):
        a = torch.cat([step[0] * WAVES, step[1] * WAVES])
        turn = torch.zeros(PLACE, PLACE)  # (sin, cos)(at) -> (sin, cos)(at + step)
        i = torch.arange(half)
        turn[i, i], turn[i, half + i], turn[half + i, i], turn[half + i, half + i] = a.cos(), a.sin(), -a.sin(), a.cos()
        q[h * VHD:(h + 1) * VHD, VD - PLACE:] += 1.4 * turn
        k[h * VHD:(h + 1) * VHD, VD - PLACE:] += 1.4 * torch.eye(PLACE)
    return q, k


def initial(seed):
    """hub name -> parameter; plus the second target's head, which is not part of the model."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    sizes = dict(shapes(), **{"marks.weight": [len(MARKS), D], "marks.bias": [len(MARKS)]})
    for name, shape in sizes.items():
        n = torch.randn(shape, generator=g)
        if name.endswith(("gate", "gate_attn", "gate_ffn")):
            w = torch.full(shape, 1.0 if "attn" in name or "ffn" in name or "mlp" in name else 0.5)
        elif "norm" in name:
            w = torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
        elif name == "marks.bias":
            w = torch.full(shape, -6.0)
        elif name.endswith("bias"):
            w = torch.zeros(shape)
        elif name in TABLES:
            w = 0.1 * n.view(len(RATIOS) + 1, 4, -1)
            if name.endswith("tile_embedding.weight"):  # where on the whole canvas
                cell = torch.cartesian_prod(torch.arange(GRID), torch.arange(GRID))
                for i, (a, b) in enumerate(RATIOS):
                    for t in range(a * b):
                        w[i + 1, t].view(P, VD)[1:, -PLACE:] = waves(cell + torch.tensor([t // b, t % b]) * GRID) / math.tanh(0.5)
            w[0] = 0
            for i, (a, b) in enumerate(RATIOS):
                w[i + 1, a * b:] = 0  # as in the real checkpoints
            w = w.view(shape)
        elif "embedding" in name and "patch" not in name:
            w = 0.3 * n
            if name.endswith("positional_embedding.embedding"):
                w[:, -PLACE:] = 0
        elif "embed_tokens" in name:
            w = 0.5 * n
        else:
            w = n / math.sqrt(math.prod(shape[1:]))
            if name.endswith(("o_proj.weight", "down_proj.weight", "fc2.weight")):
                w *= 0.35
            if "lm_head" in name or "marks" in name:
                w *= 0.3
        out[name] = w.contiguous().requires_grad_()
    # What a convolution would start with: patches told by their frequencies, and heads that look at the neighbours.
    # From random weights both have to be found first, which takes longer than all the rest.
    with torch.no_grad():
        out[VM + "patch_embedding.weight"].copy_(filters(g))
        for i, steps in enumerate(NEAR):
            for c, w in zip("qk", neighbours(steps, g)):
                out[f"{VM}transformer.layers.{i}.self_attn.{c}_proj.weight"].copy_(w)
    return out


def rope_tables(length):
    s = T["rope_scaling"]
    f = T["rope_theta"] ** (-torch.arange(0, HD, 2, dtype=torch.float64) / HD)
    wave = 2 * math.pi / f
    orig, low, high = s["original_max_position_embeddings"], s["low_freq_factor"], s["high_freq_factor"]
    t = (orig / wave - low) / (high - low)
    f = torch.where(wave < orig / high, f, torch.where(wave > orig / low, f / s["factor"], (1 - t) * f / s["factor"] + t * f))
    a = torch.outer(torch.arange(length, dtype=torch.float64), f)
    return torch.cat([a.cos()] * 2, -1).float(), torch.cat([a.sin()] * 2, -1).float()


def attend(q, k, v, bias):
    """q [B,H,N,hd], k and v [B,H,M,hd], bias [N,M] or [B,1,N,M]."""
    b, h, n, d = q.shape
    s = torch.matmul(q * d ** -0.5, k.transpose(-1, -2))
    if bias is not None:
        s = s + bias
    return torch.matmul(s.softmax(-1), v).transpose(1, 2).reshape(b, n, h * d)


class Net:
    def __init__(self, params, dtype=torch.bfloat16):
        self.p, self.dtype = params, dtype
        self.mean, self.std = torch.tensor(MEAN), torch.tensor(STD)
        self.cos, self.sin = rope_tables(512)

    def begin(self):
        """Takes the parameters as they are now, in the type that is computed in."""
        self.w = {k: v.to(self.dtype) for k, v in self.p.items()}

    def lin(self, x, *names):
        w = self.w[names[0]] if len(names) == 1 else torch.cat([self.w[n] for n in names])
        return F.linear(x, w)

    def rms(self, x, name):
        return F.rms_norm(x, x.shape[-1:], self.w[name], T["rms_norm_eps"])

    def vision(self, tiles, ratio, alone=False):
        """tiles uint8 [B,t,S,S,3], ratio ids [B] -> [B, t*P, D]. alone: as if there were no empty tiles, for half the time."""
        p, w, dt = self.p, self.w, self.dtype
        b, t = tiles.shape[:2]
        s = V["patch_size"]
        x = ((tiles.float() * (1 / 255) - self.mean) / self.std).to(dt)
        x = x.view(b, t, GRID, s, GRID, s, 3).permute(0, 1, 2, 4, 6, 3, 5).reshape(b, t, GRID * GRID, -1)
        x = F.linear(x, w[VM + "patch_embedding.weight"].view(VD, -1))
        table = lambda n: w[n][ratio].view(b, 4, -1, VD)[:, :t]
        gate = lambda n: p[n].tanh().to(dt)
        x = x + gate(VM + "pre_tile_positional_embedding.gate") * table(VM + "pre_tile_positional_embedding.embedding.weight")
        x = torch.cat([w[VM + "class_embedding"].expand(b, t, 1, VD), x], 2)
        g = gate(VM + "gated_positional_embedding.gate")
        pos = (1 - g) * w[VM + "gated_positional_embedding.embedding"]
        x = x + pos + g * table(VM + "gated_positional_embedding.tile_embedding.weight")
        if t < 4 and not alone:  # all empty tiles are one
            empty = torch.cat([w[VM + "class_embedding"][None], torch.zeros(P - 1, VD, dtype=dt)]) + pos
            x = torch.cat([x, empty.expand(b, 1, P, VD)], 1)
        x = F.layer_norm(x, (VD,), w[VM + "layernorm_pre.weight"], w[VM + "layernorm_pre.bias"], 1e-5)
        x = F.pad(x, (0, 0, 0, 1))  # all filling rows of a tile are one
        tt, n = x.shape[1], x.shape[1] * (P + 1)
        fill = torch.zeros(tt, P + 1, dtype=torch.bool)
        fill[:, P] = True
        many = torch.where(fill, float(FILL), 1.0)
        if t < 4 and not alone:
            fill[t] = True
            many[t] *= 4 - t
        fill, many = fill.view(-1), many.view(-1)
        bias = (many.log()[None] + torch.where(fill[:, None] & fill[None], -1e9, 0.0)).to(dt)
        x = x.view(b, n, VD)
        kept = []
        for i in range(V["num_hidden_layers"]):
            if i in INTER:
                kept.append(x)
            x = self.vlayer(x, f"{VM}transformer.layers.{i}.", bias, False)
        x = F.layer_norm(x, (VD,), w[VM + "layernorm_post.weight"], w[VM + "layernorm_post.bias"], 1e-5)
        post = gate(VM + "post_tile_positional_embedding.gate") * table(VM + "post_tile_positional_embedding.embedding.weight")
        if t < 4 and not alone:
            post = F.pad(post, (0, 0, 0, 0, 0, 1))
        x = (x.view(b, tt, P + 1, VD) + post).view(b, n, VD)
        for i in range(V["num_global_layers"]):
            x = self.vlayer(x, f"{VM}global_transformer.layers.{i}.", bias, True)
        x = torch.cat([x, torch.stack(kept, -1).flatten(-2)], -1).view(b, tt, P + 1, -1)[:, :t, :P].reshape(b, t * P, -1)
        return F.linear(x, w["multi_modal_projector.weight"], w["multi_modal_projector.bias"])

    def vlayer(self, x, pre, bias, gated):
        w = self.w
        b, n, _ = x.shape
        h = F.layer_norm(x, (VD,), w[pre + "input_layernorm.weight"], w[pre + "input_layernorm.bias"], V["norm_eps"])
        qkv = self.lin(h, *(f"{pre}self_attn.{c}_proj.weight" for c in "qkv")).view(b, n, 3, VHEADS, VHD).permute(2, 0, 3, 1, 4)
        h = self.lin(attend(qkv[0], qkv[1], qkv[2], bias), pre + "self_attn.o_proj.weight")
        x = x + (self.p[pre + "gate_attn"].tanh().to(self.dtype) * h if gated else h)
        h = F.layer_norm(x, (VD,), w[pre + "post_attention_layernorm.weight"], w[pre + "post_attention_layernorm.bias"], V["norm_eps"])
        h = F.linear(F.gelu(F.linear(h, w[pre + "mlp.fc1.weight"], w[pre + "mlp.fc1.bias"])), w[pre + "mlp.fc2.weight"], w[pre + "mlp.fc2.bias"])
        return x + (self.p[pre + "gate_ffn"].tanh().to(self.dtype) * h if gated else h)

    def text(self, ids, states=None, seen=None):
        """ids [B,L]; states [B,K,D]; seen bool [B,L,K], what a row sees. -> [B,L,D] after the last norm."""
        b, n = ids.shape
        dt = self.dtype
        x = F.embedding(ids, self.p[LM + "model.embed_tokens.weight"]).to(dt)
        causal = torch.full((n, n), -1e9).triu(1).to(dt)
        cos, sin = self.cos[:n].to(dt), self.sin[:n].to(dt)
        if states is not None:
            row = seen.any(-1)
            part = (row & ~seen.all(-1)).any()  # with one picture a row sees all or nothing: no mask
            bias = torch.where(seen | ~row[..., None], 0.0, -1e9).to(dt)[:, None] if part else None
            row = row[..., None].to(dt)
        for i in range(T["num_hidden_layers"]):
            pre = f"{LM}model.layers.{i}."
            if i in CROSS:
                if states is None:
                    continue
                a = pre + "cross_attn."
                q = self.rms(self.lin(self.rms(x, pre + "input_layernorm.weight"), a + "q_proj.weight").view(b, n, HEADS, HD), a + "q_norm.weight")
                kv = self.lin(states, a + "k_proj.weight", a + "v_proj.weight").view(b, -1, 2 * KV, HD)
                k, v = self.rms(kv[:, :, :KV], a + "k_norm.weight"), kv[:, :, KV:]
                h = attend(q.transpose(1, 2), self.groups(k), self.groups(v), bias)
                x = x + self.p[pre + "cross_attn_attn_gate"].tanh().to(dt) * self.lin(h, a + "o_proj.weight") * row
                x = x + self.p[pre + "cross_attn_mlp_gate"].tanh().to(dt) * self.mlp(x, pre) * row
            else:
                a = pre + "self_attn."
                qkv = self.lin(self.rms(x, pre + "input_layernorm.weight"), *(f"{a}{c}_proj.weight" for c in "qkv")).view(b, n, -1, HD)
                qk = qkv[:, :, :HEADS + KV].transpose(1, 2)
                qk = qk * cos + torch.cat([-qk[..., HD // 2:], qk[..., :HD // 2]], -1) * sin
                h = attend(qk[:, :HEADS], qk[:, HEADS:].repeat_interleave(HEADS // KV, 1), self.groups(qkv[:, :, HEADS + KV:]), causal)
                x = x + self.lin(h, a + "o_proj.weight")
                x = x + self.mlp(x, pre)
        return self.rms(x, LM + "model.norm.weight")

    def groups(self, k):
        """[B,M,KV,hd] -> [B,H,M,hd]"""
        return k.transpose(1, 2).repeat_interleave(HEADS // KV, 1)

    def mlp(self, x, pre):
        h = self.lin(self.rms(x, pre + "post_attention_layernorm.weight"), pre + "mlp.gate_proj.weight", pre + "mlp.up_proj.weight")
        gate, up = h.chunk(2, -1)
        return self.lin(F.silu(gate) * up, pre + "mlp.down_proj.weight")

    def logits(self, h):
        return self.lin(h, LM + "lm_head.weight").float()
