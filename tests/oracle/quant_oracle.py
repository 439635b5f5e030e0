#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden blocks for tests/test_quant: random bytes of every block format and the f32 values that the
`gguf` package (pip install gguf), an implementation independent of puna's, makes of them.

    quant_oracle.py OUT.bin [BLOCKS-OF-256]        default 8: the committed tests/data/quant/blocks.bin

Format, little-endian: "PNQ1"; per type u32 type id, u32 blocks, u32 bytes and elements per block, the
blocks, the f32 values. f16 scales are finite; all other bits are random.
"""
import struct
import sys

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize

# type, elements, bytes, offsets of f16 scales
TYPES = [
    (T.F16, 1, 2, [0]), (T.BF16, 1, 2, [0]),
    (T.Q4_0, 32, 18, [0]), (T.Q4_1, 32, 20, [0, 2]), (T.Q5_0, 32, 22, [0]), (T.Q5_1, 32, 24, [0, 2]),
    (T.Q8_0, 32, 34, [0]), (T.IQ4_NL, 32, 18, [0]),
    (T.Q2_K, 256, 84, [80, 82]), (T.Q3_K, 256, 110, [108]), (T.Q4_K, 256, 144, [0, 2]),
    (T.Q5_K, 256, 176, [0, 2]), (T.Q6_K, 256, 210, [208]), (T.IQ4_XS, 256, 136, [0]),
]


def main():
    out, n256 = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8
    rng = np.random.default_rng(20260922)
    with open(out, "wb") as f:
        f.write(b"PNQ1")
        for qtype, elems, size, scales in TYPES:
            n = n256 * (1 if elems == 256 else 4 if elems == 32 else 32)
            blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
            blocks[0] = 0xFF
            blocks[1] = 0x80
            for at in scales:
                bits = rng.integers(0, 0x7C00, n, dtype=np.uint16)
                bits |= rng.integers(0, 2, n, dtype=np.uint16) << 15
                blocks[:, at:at + 2] = bits.view(np.uint8).reshape(n, 2)
            values = dequantize(blocks, qtype).astype("<f4")
            assert values.size == n * elems
            f.write(struct.pack("<4I", int(qtype), n, size, elems))
            f.write(blocks.tobytes())
            f.write(values.tobytes())


main()
