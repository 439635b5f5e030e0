# SPDX-License-Identifier: Apache-2.0
"""GGUF v3 in and out, as little of it as the oracle needs.

Written from the format's description so that files made here do not share code with anything they are
compared to.  Reading of block-quantised tensors goes through pip's `gguf` (its quants module is the public
reference for those formats); F32, F16 and BF16 are read here.
"""
import struct

import numpy as np

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
SCALAR = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q",
          F64: "d"}
T_F32, T_F16, T_BF16 = 0, 1, 30
ALIGN = 32


def bf16_bits(x):
    """float32 array -> uint16 bf16 bits, round to nearest even."""
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_values(bits):
    return (np.ascontiguousarray(bits, np.uint16).astype(np.uint32) << 16).view(np.float32)


def _string(s):
    b = s.encode() if isinstance(s, str) else s
    return struct.pack("<Q", len(b)) + b


def _value(kind, v):
    if kind == STR:
        return _string(v)
    return struct.pack("<" + SCALAR[kind], v)


class Writer:
    """kv: (key, kind, value) or (key, (ARR, kind), values); tensors: (name, type, numpy array in row-major order)."""

    def __init__(self):
        self.kv = []
        self.tensors = []

    def add(self, key, kind, value):
        self.kv.append((key, kind, value))

    def tensor(self, name, array, kind):
        self.tensors.append((name, kind, np.ascontiguousarray(array, np.float32)))

    def write(self, path):
        out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.kv)))
        for key, kind, value in self.kv:
            out += _string(key)
            if isinstance(kind, tuple):
                out += struct.pack("<IIQ", ARR, kind[1], len(value))
                for v in value:
                    out += _value(kind[1], v)
            else:
                out += struct.pack("<I", kind) + _value(kind, value)
        blobs, offset = [], 0
        for name, kind, a in self.tensors:
            data = {T_F32: lambda: a, T_F16: lambda: a.astype(np.float16), T_BF16: lambda: bf16_bits(a)}[kind]().tobytes()
            out += _string(name) + struct.pack("<I", a.ndim)
            out += struct.pack("<%dQ" % a.ndim, *reversed(a.shape))
            out += struct.pack("<IQ", kind, offset)
            pad = -len(data) % ALIGN
            blobs.append(data + b"\0" * pad)
            offset += len(data) + pad
        out += b"\0" * (-len(out) % ALIGN)
        with open(path, "wb") as f:
            f.write(out)
            for b in blobs:
                f.write(b)


class Reader:
    """kv: dict; tensors: name -> (shape row-major, type number, bytes)."""

    def __init__(self, path):
        self.b = memoryview(open(path, "rb").read())
        if self.b[:4] != b"GGUF":
            raise SystemExit(f"{path}: not a GGUF file")
        self.p = 4
        version = self._get("I")
        if version not in (2, 3):
            raise SystemExit(f"{path}: GGUF version {version}")
        n_tensors, n_kv = self._get("Q"), self._get("Q")
        self.kv, self.kinds = {}, {}
        for _ in range(n_kv):
            key = self._str()
            kind = self._get("I")
            self.kinds[key] = kind
            self.kv[key] = self._val(kind)
        infos = []
        for _ in range(n_tensors):
            name = self._str()
            nd = self._get("I")
            ne = [self._get("Q") for _ in range(nd)]
            infos.append((name, tuple(reversed(ne)), self._get("I"), self._get("Q")))
        align = self.kv.get("general.alignment", ALIGN)
        base = self.p + (-self.p % align)
        ends = sorted(i[3] for i in infos)[1:] + [len(self.b) - base]
        order = sorted(infos, key=lambda i: i[3])
        self.tensors = {}
        for (name, shape, kind, off), end in zip(order, ends):
            self.tensors[name] = (shape, kind, self.b[base + off:base + end])
        self.order = [i[0] for i in infos]

    def _get(self, c):
        (v,) = struct.unpack_from("<" + c, self.b, self.p)
        self.p += struct.calcsize("<" + c)
        return v

    def _str(self):
        n = self._get("Q")
        s = bytes(self.b[self.p:self.p + n])
        self.p += n
        return s.decode("utf-8", "surrogateescape")

    def _val(self, kind):
        if kind == STR:
            return self._str()
        if kind == ARR:
            k, n = self._get("I"), self._get("Q")
            return [self._val(k) for _ in range(n)]
        return self._get(SCALAR[kind])

    def array(self, name):
        shape, kind, data = self.tensors[name]
        n = int(np.prod(shape))
        if kind == T_F32:
            return np.frombuffer(data, np.float32, n).reshape(shape).copy()
        if kind == T_F16:
            return np.frombuffer(data, np.float16, n).astype(np.float32).reshape(shape)
        if kind == T_BF16:
            return bf16_values(np.frombuffer(data, np.uint16, n)).reshape(shape)
        import gguf
        t = gguf.GGMLQuantizationType(kind)
        block, size = gguf.GGML_QUANT_SIZES[t]
        raw = np.frombuffer(data, np.uint8, n // block * size).reshape(*shape[:-1], shape[-1] // block * size)
        return gguf.quants.dequantize(raw, t).reshape(shape).astype(np.float32)
