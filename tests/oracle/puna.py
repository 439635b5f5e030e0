# SPDX-License-Identifier: Apache-2.0
"""The program under test: $PUNA (default ./puna)."""
import os
import shlex
import subprocess
import tempfile

from safetensors import safe_open

PROGRAM = os.path.abspath(os.environ.get("PUNA", "./puna"))


class Failed(Exception):
    pass


def call(*args, timeout=300):
    r = subprocess.run([PROGRAM, *map(str, args)], capture_output=True, timeout=timeout)
    if r.returncode != 0:
        raise Failed(f"exit {r.returncode}: {r.stderr.decode(errors='replace').strip()[-400:]}\n  "
                     + shlex.join([PROGRAM, *map(str, args)]))
    return r


def tensors(*args):
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "out.safetensors")
        call(*args, "-o", path)
        with safe_open(path, "np") as f:
            return {k: f.get_tensor(k) for k in f.keys()}


def image_args(images):
    return [a for i in images for a in ("-i", i)]


def logits(model, *, ids=None, prompt=None, images=(), precise=True, hf_rows=False, more=()):
    what = ["--ids", ",".join(map(str, ids))] if ids is not None else ["--raw", "-p", prompt]
    return tensors("logits", "-m", model, *more, *what, *image_args(images), *(["--precise"] if precise else []),
                   *(["--hf-rows"] if hf_rows else []))


def encode(model, images, *, precise=True, more=()):
    return tensors("encode", "-m", model, *more, *image_args(images), *(["--precise"] if precise else []))
