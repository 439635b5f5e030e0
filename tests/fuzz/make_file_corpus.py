#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seed corpora of fuzz_gguf, fuzz_safetensors, fuzz_config, fuzz_imatrix and fuzz_adapter next to itself: tiny valid
files, and the same with one thing wrong. Run by hand after changing it; the files are committed."""
import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
U32, I32, F32, BOOL, STR, ARR, U64 = 4, 5, 6, 7, 8, 9, 10


def put(kind, name, data):
    folder = os.path.join(HERE, "corpus", kind)
    os.makedirs(folder, exist_ok=True)
    assert len(data) < 4096, (kind, name, len(data))
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def s(text):
    b = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(b)) + b


def kv(key, typ, v):
    pack = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q"}
    return s(key) + struct.pack("<I", typ) + (s(v) if typ == STR else struct.pack(pack[typ], v))


def arr(key, typ, vs):
    body = b"".join(s(v) if typ == STR else struct.pack("<i" if typ == I32 else "<f", v) for v in vs)
    return s(key) + struct.pack("<IIQ", ARR, typ, len(vs)) + body


def gguf(kvs, tensors, version=3, n_kv=None, n_t=None, align=32):
    table, data = b"", b""
    for name, typ, ne, size in tensors:
        data += b"\0" * (-len(data) % align)
        table += s(name) + struct.pack("<I%dQIQ" % len(ne), len(ne), *ne, typ, len(data))
        data += bytes(i % 7 for i in range(size))
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors) if n_t is None else n_t,
                                 len(kvs) if n_kv is None else n_kv) + b"".join(kvs) + table
    return head + b"\0" * (-len(head) % align) + data


def text_keys(arch):
    ints = dict(block_count=2, context_length=256, embedding_length=4, feed_forward_length=8,
                vocab_size=16)
    ints.update({"attention.head_count": 2, "attention.head_count_kv": 1, "rope.dimension_count": 2})
    out = [kv("general.architecture", STR, arch)]
    out += [kv(arch + "." + k, U32, v) for k, v in ints.items()]
    out += [kv(arch + ".rope.freq_base", F32, 5e5),
            kv(arch + ".attention.layer_norm_rms_epsilon", F32, 1e-5)]
    if arch == "mllama":
        out.append(arr("mllama.attention.cross_attention_layers", I32, [1]))
    return out


def vision_keys():
    ints = {"block_count": 2, "global.block_count": 1, "embedding_length": 8,
            "feed_forward_length": 16, "attention.head_count": 2, "image_size": 28, "patch_size": 14,
            "max_num_tiles": 4, "num_channels": 3}
    return [kv("mllama.vision." + k, U32, v) for k, v in ints.items()] + [
        kv("mllama.vision.attention.layer_norm_epsilon", F32, 1e-5),
        arr("mllama.vision.intermediate_layers_indices", I32, [0, 1])]


TOKENS = ["a", "b", "c", "ab", "abc", "<|begin_of_text|>", "<|end_of_text|>", "<|eom_id|>",
          "<|eot_id|>", "<|image|>"]


def vocab():
    return [kv("tokenizer.ggml.model", STR, "gpt2"), kv("tokenizer.ggml.pre", STR, "llama-bpe"),
            arr("tokenizer.ggml.tokens", STR, TOKENS),
            arr("tokenizer.ggml.token_type", I32, [1] * 5 + [3] * 5),
            arr("tokenizer.ggml.scores", F32, [0.5] * 10),
            arr("tokenizer.ggml.merges", STR, ["a b", "ab c"]),
            kv("tokenizer.ggml.bos_token_id", U32, 5), kv("tokenizer.ggml.eos_token_id", U32, 8),
            arr("tokenizer.ggml.eos_token_ids", I32, [6, 7, 8]),
            kv("tokenizer.ggml.add_bos_token", BOOL, True)]


def make_gguf():
    embd = [("token_embd.weight", 1, [4, 16], 128), ("output.weight", 1, [4, 12], 96)]
    gates = [("v.global.blk.0.attn_gate", 0, [1], 4), ("v.global.blk.0.ffn_gate", 0, [1], 4)]
    text = text_keys("llama") + vocab()
    both = text_keys("mllama") + vision_keys() + vocab()
    good = {"text": gguf(text, embd), "combined": gguf(both, embd + gates),
            "text_half": gguf(text_keys("mllama") + vocab(), embd),
            "projector": gguf([kv("general.architecture", STR, "mllama")] + vision_keys(), gates),
            "align1": gguf([kv("general.alignment", U32, 1)] + text, embd, align=1),
            "v2": gguf(text, embd, version=2), "empty": gguf([], []),
            "types": gguf([kv("x", U64, 1 << 60)], [("t%d" % t, t, [256, 2], n * 2) for t, n in
                          ((12, 144), (14, 210), (8, 272), (2, 144), (30, 512))])}
    for name, data in good.items():
        put("gguf", name, data)
    put("gguf", "bad_version", gguf(text, embd, version=0x03000000))
    put("gguf", "bad_n_kv", gguf(text, embd, n_kv=1 << 63))
    put("gguf", "bad_n_tensors", gguf(text, embd, n_t=(1 << 64) - 1))
    put("gguf", "bad_duplicate", gguf(text + [text[0]], embd))
    put("gguf", "bad_overflow", gguf([], [("t", 0, [1 << 32, 1 << 32, 4], 64)]))
    put("gguf", "bad_zero_dim", gguf([], [("t", 0, [4, 0], 64)]))
    put("gguf", "bad_alignment", gguf([kv("general.alignment", U32, 0)], embd))
    put("gguf", "bad_split", gguf([kv("split.count", U32, 3)], embd))
    put("gguf", "bad_array", gguf([s("a") + struct.pack("<IIQ", ARR, STR, 1 << 61)], []))
    put("gguf", "bad_nested", gguf([s("a") + struct.pack("<IIQIQ", ARR, ARR, 1, U32, 0)], []))
    put("gguf", "bad_inter", good["combined"].replace(struct.pack("<IQii", I32, 2, 0, 1),
                                                      struct.pack("<IQii", I32, 2, 0, 9)))
    put("gguf", "bad_cut", good["combined"][:-90])


def st(header, n):
    h = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(h)) + h + bytes(i & 255 for i in range(n))


def t(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def make_safetensors():
    good = {"__metadata__": {"format": "pt"}, "b": t("F32", [2, 3], 8, 32),
            "a": t("BF16", [4], 0, 8), "gate": t("F16", [], 32, 34)}
    put("safetensors", "good", st(good, 34))
    put("safetensors", "good_padded", st(json.dumps(good).encode() + b"     ", 34))
    put("safetensors", "good_4d", st({"w": t("BF16", [2, 3, 2, 2], 0, 48)}, 48))
    put("safetensors", "good_none", st({}, 0))
    put("safetensors", "bad_cut", st(good, 20))
    put("safetensors", "bad_gap", st({"a": t("F32", [1], 4, 8)}, 8))
    put("safetensors", "bad_overlap", st({"a": t("F32", [2], 0, 8), "b": t("F32", [1], 4, 8)}, 8))
    put("safetensors", "bad_size", st({"a": t("BF16", [2], 0, 8)}, 8))
    put("safetensors", "bad_type", st({"a": t("I64", [1], 0, 8)}, 8))
    put("safetensors", "bad_shape", st({"a": t("F32", [1 << 62, 4], 0, 4)}, 4))
    put("safetensors", "bad_negative", st({"a": t("F32", [-1], -4, 0)}, 4))
    put("safetensors", "bad_duplicate", st(b'{"a":{},"a":{}}', 0))
    put("safetensors", "bad_deep", st(b'{"a":' + b"[" * 3000, 0))
    put("safetensors", "bad_length", struct.pack("<Q", 1 << 63) + b"{}")
    put("safetensors", "bad_utf8", st(b'{"\xff":1}', 0))


def make_config():
    def c(letter, name, value):
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        put("config", name, letter + text)
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64}
    text = {"vocab_size": 528, "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8,
            "num_key_value_heads": 2, "intermediate_size": 512, "rope_theta": 5e5,
            "rms_norm_eps": 1e-5, "max_position_embeddings": 1024, "rope_scaling": rope,
            "bos_token_id": 512, "eos_token_id": [513, 520], "pad_token_id": 516,
            "cross_attention_layers": [1, 4], "hidden_act": "silu"}
    vision = {"image_size": 56, "patch_size": 14, "hidden_size": 160, "attention_heads": 2,
              "intermediate_size": 320, "intermediate_layers_indices": [1, 2],
              "vision_output_dim": 480, "num_hidden_layers": 4, "num_global_layers": 2,
              "max_num_tiles": 4, "supported_aspect_ratios": [[1, 1], [2, 2], [4, 1]]}
    mllama = {"model_type": "mllama", "image_token_index": 528, "text_config": text,
              "vision_config": vision}
    c(b"c", "mllama", mllama)
    c(b"c", "mllama_defaults", {"model_type": "mllama", "text_config": {}, "vision_config": {}})
    c(b"c", "mllama_text", dict(text, model_type="mllama_text_model"))
    c(b"c", "llama", dict(text, model_type="llama", tie_word_embeddings=True, head_dim=64))
    c(b"c", "llama_v5", {"model_type": "llama", "rope_parameters": dict(rope, rope_theta=5e5)})
    c(b"c", "bad_cross", dict(mllama, text_config=dict(text, cross_attention_layers=[1, 99])))
    c(b"c", "bad_inter", dict(mllama, vision_config=dict(vision,
                                                        intermediate_layers_indices=[30])))
    c(b"c", "bad_zero", dict(mllama, text_config=dict(text, num_attention_heads=0)))
    c(b"c", "bad_heads", dict(text, model_type="llama", num_key_value_heads=3))
    c(b"c", "bad_type", {"model_type": 7})
    c(b"g", "generation", {"eos_token_id": [513, 520], "do_sample": True, "temperature": 0.6,
                           "top_p": 0.9, "top_k": 40})
    c(b"g", "generation_one", {"eos_token_id": 2, "temperature": None})
    c(b"p", "preprocessor", {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2],
                             "size": {"height": 56, "width": 56}, "max_image_tiles": 4,
                             "resample": 2, "rescale_factor": 1 / 255, "do_resize": True})
    c(b"p", "processor", {"image_processor": {"image_mean": [1, 2]}})
    c(b"t", "tokens", {"added_tokens_decoder": {"8": {"content": "<|eom_id|>"},
                                                "9": {"content": "<|eot_id|>"}},
                       "chat_template": "x"})
    c(b"i", "index", {"metadata": {"total_size": 1}, "weight_map": {"a": "1.safetensors",
                                                                   "b": "2.safetensors"}})
    c(b"i", "bad_index", {"weight_map": {"a": "../../etc/passwd"}})
    c(b"o", "params", {"temperature": 0.6, "top_p": 0.9, "top_k": 3, "stop": ["x"]})
    c(b"c", "bad_json", b'{"model_type":"llama","vocab_size":1e999}')


def make_imatrix():
    keys = [kv("general.type", STR, "imatrix"), arr("imatrix.datasets", STR, ["a.txt", "b.jsonl"]),
            kv("imatrix.chunk_count", U32, 2), kv("imatrix.chunk_size", U32, 512)]

    def two(name, sums, count):
        n = len(sums)
        table = [(name + ".in_sum2", 0, [n, 1], n * 4), (name + ".counts", 0, [1, 1], 4)]
        return table, [struct.pack("<%df" % n, *sums), struct.pack("<f", count)]

    def file(entries, change=None):
        table = [t for e in entries for t in e[0]]
        data = b"".join(d + b"\0" * (-len(d) % 32) for e in entries for d in e[1])
        whole = gguf(keys, [change(t) for t in table] if change else table)
        return whole[:len(whole) - sum(t[3] + -t[3] % 32 for t in table[:-1]) - table[-1][3]] + data

    q = two("blk.0.attn_q.weight", [1.0, 2.0, 4.0, 0.0], 8.0)
    v = two("v.blk.0.attn_q.weight", [3.0] * 8, 17.0)
    put("imatrix", "good", file([q, v]))
    put("imatrix", "no_data", file([two("x", [1.0, 2.0], 0.0), q]))
    put("imatrix", "bad_nan", file([two("x", [1.0, float("nan")], 1.0)]))
    put("imatrix", "bad_negative", file([two("x", [1.0, -1.0], 1.0)]))
    put("imatrix", "bad_count", file([two("x", [1.0], float("inf"))]))
    put("imatrix", "bad_overflow", file([two("x", [3e38], 1e-30)]))
    put("imatrix", "bad_type", file([q], lambda t: (t[0], 1, t[2], t[3])))
    put("imatrix", "bad_name", file([q], lambda t: (t[0] + ".", t[1], t[2], t[3])))
    put("imatrix", "bad_none", gguf(keys, []))

    def entry(name, calls, values):
        b = name if isinstance(name, bytes) else name.encode()
        return struct.pack("<i", len(b)) + b + struct.pack("<ii%df" % len(values), calls, len(values), *values)
    tail = struct.pack("<ii", 2, 5) + b"a.txt"
    a = entry("blk.0.attn_q.weight", 2, [1.0, 2.0, 4.0, 0.0])
    put("imatrix", "dat", struct.pack("<i", 2) + a + entry("output.weight", 3, [0.5] * 8) + tail)
    put("imatrix", "dat_no_tail", struct.pack("<i", 1) + a)
    put("imatrix", "dat_no_calls", struct.pack("<i", 2) + a + entry("x", 0, [1.0]))
    put("imatrix", "bad_dat_twice", struct.pack("<i", 2) + a + a)
    put("imatrix", "bad_dat_n", struct.pack("<i", 0x7fffffff) + a)
    put("imatrix", "bad_dat_zero", struct.pack("<i", 1) + entry(b"a\0b", 1, [1.0]))
    put("imatrix", "bad_dat_long", struct.pack("<ii", 1, 0x7fffffff) + b"x")
    put("imatrix", "bad_dat_values", struct.pack("<ii", 1, 1) + b"x" + struct.pack("<ii", 1, 0x7fffffff))
    put("imatrix", "bad_dat_negative", struct.pack("<ii", 1, -1) + a)
    put("imatrix", "bad_dat_nan", struct.pack("<i", 1) + entry("x", 1, [float("nan")]))
    put("imatrix", "bad_dat_cut", struct.pack("<i", 1) + a[:-3])


def make_adapter():
    q = "base_model.model.language_model.model.layers.0.self_attn.q_proj"
    v = "base_model.model.vision_model.transformer.layers.1.self_attn.v_proj"

    def pair(module, r, at):
        a, b = at + 2 * r * 8, at + 2 * r * 14
        return {module + ".lora_A.weight": t("BF16", [r, 8], at, a), module + ".lora_B.weight": t("BF16", [6, r], a, b)}
    one = pair(q, 2, 0)
    both = dict(one, **pair(v, 4, 56))

    def put_pair(name, config, header, n):
        text = config if isinstance(config, bytes) else json.dumps(config).encode()
        put("adapter", name, text + b"\0" + st(header, n))
    base = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", "target_modules": ["q_proj"]}
    put_pair("good", base, one, 56)
    put_pair("patterns", dict(base, use_rslora=True, rank_pattern={"vision_model.*v_proj": 4},
                              alpha_pattern={"^x$": 1, "layers\\.0\\..*": 16}), both, 168)
    put_pair("base_layer", base, dict(one, **{q + ".base_layer.weight": t("BF16", [6, 8], 56, 152)}), 152)
    put_pair("older_names", base, {k.replace("language_model.model", "model.language_model"): x
                                   for k, x in one.items()}, 56)
    put_pair("bad_type", dict(base, peft_type="IA3"), one, 56)
    put_pair("bad_bias", dict(base, bias="all"), one, 56)
    put_pair("bad_dora", dict(base, use_dora=True), one, 56)
    put_pair("bad_init", dict(base, init_lora_weights="pissa"), one, 56)
    put_pair("bad_rank", dict(base, r=3), one, 56)
    put_pair("bad_zero", dict(base, r=0), one, 56)
    put_pair("bad_alpha", dict(base, lora_alpha=1e300), one, 56)
    put_pair("bad_pattern", dict(base, rank_pattern={"(": 2}), one, 56)
    put_pair("bad_number", dict(base, rank_pattern={"q_proj": "2"}), one, 56)
    put_pair("bad_steps", dict(base, rank_pattern={"(.*)*(.*)*(.*)*x": 2}), one, 56)
    put_pair("bad_alone", base, {q + ".lora_A.weight": t("BF16", [2, 8], 0, 32)}, 32)
    put_pair("bad_twice", base, dict(one, **{k[len("base_model.model."):]: t("BF16", [2, 8], 56, 88)
                                             for k in list(one)[:1]}), 88)
    put_pair("bad_kind", base, {"lora_embedding_A": t("BF16", [2, 8], 0, 32)}, 32)
    put_pair("bad_shape", base, {q + ".lora_A.weight": t("BF16", [16], 0, 32)}, 32)
    put_pair("bad_name", base, {"base_model.model..lora_A.weight": t("BF16", [2, 8], 0, 32),
                                ".lora_B.weight": t("BF16", [6, 2], 32, 56)}, 56)
    put_pair("bad_none", base, {}, 0)
    put_pair("bad_json", b'{"peft_type":"LORA"', one, 56)


make_gguf()
make_safetensors()
make_config()
make_imatrix()
make_adapter()
