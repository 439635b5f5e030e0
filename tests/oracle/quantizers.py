# SPDX-License-Identifier: Apache-2.0
"""Squared error of puna's row quantisers beside ggml's own, and their speed.

    quantizers.py LIBPUNA_CORE.so LIBGGML_BASE.so [--rows N] [--markdown]

LIBPUNA_CORE.so exports pn_quantize_row and pn_dequant_c (link libcore with -shared); LIBGGML_BASE.so is llama.cpp's,
for example from npm's @node-llama-cpp/linux-x64. Both results are decoded by pip's gguf, so the blocks are also
checked to mean to others what they mean to puna.
"""
import argparse
import ctypes
import time

import gguf
import numpy as np

TYPES = ["Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K", "Q2_K"]


def rows(kind, n, cols, rng):
    g = rng.standard_normal((n, cols)).astype(np.float32)
    if kind == "gauss":
        return g * np.float32(0.02)
    if kind == "tails":
        return (rng.standard_t(4, (n, cols)) * 0.015).astype(np.float32)
    if kind == "outliers":  # a few channels thirty times as large, as in real projections
        g *= 0.02
        g[:, rng.choice(cols, cols // 100, replace=False)] *= 30
        return g
    if kind == "bf16":  # values that a checkpoint holds
        u = (g * np.float32(0.03)).view(np.uint32)
        return ((u + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    if kind == "shifted":
        return g * np.float32(0.02) + np.float32(0.01)
    raise ValueError(kind)


KINDS = ["gauss", "tails", "outliers", "bf16", "shifted"]


def ptr(a):
    return a.ctypes.data_as(ctypes.c_void_p)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("ours")
    p.add_argument("ggml")
    p.add_argument("--rows", type=int, default=64)
    p.add_argument("--cols", type=int, default=4096)
    p.add_argument("--types", default=",".join(TYPES))
    p.add_argument("--markdown", action="store_true")
    o = p.parse_args()
    ours, ggml = ctypes.CDLL(o.ours), ctypes.CDLL(o.ggml)
    ours.pn_quantize_row.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                                         ctypes.c_int64, ctypes.c_void_p]
    worse = 0
    print("| type | rows | weights | puna | ggml | puna / ggml | puna MB/s | ggml MB/s |\n|---|---|---|---|---|---|---|---|")
    for name in o.types.split(","):
        t = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[t]
        for kind in KINDS:
            for weighted in (False, True):
                rng = np.random.default_rng(7)
                x = np.ascontiguousarray(rows(kind, o.rows, o.cols, rng))
                imp = np.exp(rng.standard_normal(o.cols) * 1.5).astype(np.float32)  # squares of activations: log-normal
                a = np.zeros((o.rows, o.cols // block * size), np.uint8)
                b = np.zeros_like(a)
                w = ptr(imp) if weighted else None
                t0 = time.perf_counter()
                for r in range(o.rows):
                    ours.pn_quantize_row(int(t), ptr(a[r]), ptr(x[r]), o.cols, w)
                t1 = time.perf_counter()
                ggml.ggml_quantize_chunk(int(t), ptr(x), ptr(b), 0, o.rows, o.cols, w)
                t2 = time.perf_counter()
                e = [float((((gguf.quants.dequantize(q, t).astype(np.float64) - x) ** 2) * (imp if weighted else 1)).sum() /
                           ((x.astype(np.float64) ** 2) * (imp if weighted else 1)).sum()) for q in (a, b)]
                worse += e[0] > e[1]
                mb = x.nbytes / 1e6
                print(f"| {name} | {kind} | {'importance' if weighted else 'even'} | {e[0]:.4e} | {e[1]:.4e} | {e[0] / e[1]:.3f} |"
                      f" {mb / (t1 - t0):.0f} | {mb / (t2 - t1):.0f} |", flush=True)
    print(f"\n{worse} worse")
    return worse > 0


if __name__ == "__main__":
    raise SystemExit(main())
