#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_data.py WORK DATA: makes DATA/tiny-b, DATA/tiny-llama and DATA/ollama (DATA is tests/data).

$OLLAMA: ollama v0.24.0; $OLLAMA_OLDQ: the same with the quantiser's name filter of releases before 2026-01-20 (which
quantises the vision attn_v as in the published files; tests/oracle/README.md says how)."""
import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file

import hub2gguf
from reference import Reference

HERE = os.path.dirname(os.path.abspath(__file__))
work, data = (os.path.abspath(a) for a in sys.argv[1:3])
os.makedirs(work, exist_ok=True)
run = lambda *a, **k: subprocess.run(a, check=True, **k)
LIBRARY = "manifests/registry.ollama.ai/library"


def manifest(store, name, tag):
    return json.load(open(f"{store}/{LIBRARY}/{name}/{tag}"))


def blob(store, digest):
    return f"{store}/blobs/{digest.replace(':', '-')}"


def layer(m, kind):
    return next(x["digest"] for x in m["layers"] if x["mediaType"].endswith("." + kind))


def copy_model(src, dst, name, tag):
    m = manifest(src, name, tag)
    os.makedirs(f"{dst}/{LIBRARY}/{name}", exist_ok=True)
    os.makedirs(f"{dst}/blobs", exist_ok=True)
    shutil.copyfile(f"{src}/{LIBRARY}/{name}/{tag}", f"{dst}/{LIBRARY}/{name}/{tag}")
    for d in [m["config"]["digest"]] + [x["digest"] for x in m["layers"]]:
        shutil.copyfile(blob(src, d), blob(dst, d))
    return blob(dst, layer(m, "model"))


def add_blob(store, content):
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    with open(blob(store, digest), "wb") as f:
        f.write(content)
    return {"digest": digest, "size": len(content)}


def add_split(store, like, name, text, projector):
    """A manifest as Ollama 0.4-0.6 had them: model, projector, template, params, config."""
    tmpl = next(x for x in like["layers"] if x["mediaType"].endswith(".template"))
    params = next(x for x in like["layers"] if x["mediaType"].endswith(".params"))
    image = "application/vnd.ollama.image."
    files = [(image + "model", add_blob(store, open(text, "rb").read())),
             (image + "projector", add_blob(store, open(projector, "rb").read()))]
    config = json.dumps({"model_format": "gguf", "model_family": "mllama", "model_families": ["mllama", "mllama"],
                         "model_type": "0.2M", "file_type": "F16", "architecture": "amd64", "os": "linux",
                         "rootfs": {"type": "layers", "diff_ids": [f["digest"] for _, f in files]}}).encode()
    m = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
         "config": dict(mediaType="application/vnd.docker.container.image.v1+json", **add_blob(store, config)),
         "layers": [dict(mediaType=t, **f) for t, f in files] + [tmpl, params]}
    os.makedirs(f"{store}/{LIBRARY}/{name}", exist_ok=True)
    with open(f"{store}/{LIBRARY}/{name}/latest", "w") as f:
        json.dump(m, f)


def goldens(gold, hub, images, label, files, cases, features):
    """Logits transformers computes from the file's dequantised values."""
    ref = Reference(hub, {k: torch.from_numpy(np.ascontiguousarray(v))
                          for k, v in hub2gguf.hub_weights(files, json.load(open(hub + "/config.json"))).items()})
    for c in cases:
        pics = [Image.open(f"{images}/{p}.png") for p in c["images"]]
        gold[f"{label}/{c['name']}/logits"] = np.ascontiguousarray(ref.logits(c["ids"], pics))
        if features and pics:
            px, ratio, tiles, rmask = ref.pictures(pics)
            gold[f"{label}/{c['name']}/vision_features"] = np.ascontiguousarray(ref.features(px, ratio, rmask))


store = f"{work}/store"
old = f"{work}/store-oldq"
create = lambda hub, name, where, ollama: run(f"{HERE}/ollama_create.sh", hub, name, where, stdout=subprocess.DEVNULL,
                                              env=dict(os.environ, OLLAMA=ollama, PYTHON=sys.executable))
readme = open(f"{data}/ollama/README.md").read()
for d in (store, old, f"{data}/ollama", f"{data}/tiny-b", f"{data}/tiny-llama", f"{work}/tiny-c"):
    shutil.rmtree(d, ignore_errors=True)
run(sys.executable, f"{HERE}/make_tiny_b.py", f"{data}/tiny-b")
run(sys.executable, f"{HERE}/make_tiny_llama.py", f"{data}/tiny-llama")
run(sys.executable, f"{HERE}/make_tiny_c.py", f"{work}/tiny-c")
tiny_a, tiny_b, tiny_c = f"{data}/tiny-a/model", f"{data}/tiny-b/model", f"{work}/tiny-c/model"
tiny_l = f"{data}/tiny-llama/model"
ollama = os.environ.get("OLLAMA", "ollama")
create(tiny_b, "tiny-b", store, ollama)
create(tiny_a, "tiny-a", store, ollama)
create(tiny_l, "tiny-llama", store, ollama)
create(tiny_c, "tiny-c", old, os.environ["OLLAMA_OLDQ"])

out = f"{data}/ollama"
models = f"{out}/models"
os.makedirs(out)
with open(f"{out}/README.md", "w") as f:
    f.write(readme)
files = {("tiny-b", t): copy_model(store, models, "tiny-b", t) for t in ("latest", "f16", "q8_0", "q4_k_m")}
for tag in ("latest", "q8_0"):
    files["tiny-llama", tag] = copy_model(store, models, "tiny-llama", tag)
files["tiny-c", "q4_k_m"] = copy_model(old, models, "tiny-c", "q4_k_m")
text, projector = f"{out}/tiny-b-text.gguf", f"{out}/tiny-b-projector.gguf"
hub2gguf.write_split(tiny_b, text, projector)
add_split(models, manifest(store, "tiny-b", "latest"), "tiny-b-split", text, projector)
shutil.copyfile(blob(store, layer(manifest(store, "tiny-a", "f16"), "model")), f"{out}/tiny-a-combined-f16.gguf")
os.makedirs(f"{out}/tiny-c")
shutil.copytree(f"{work}/tiny-c/images", f"{out}/tiny-c/images")
shutil.copyfile(f"{work}/tiny-c/cases.json", f"{out}/tiny-c/cases.json")

gold = {}
b_cases = [c for c in json.load(open(f"{data}/tiny-b/cases.json"))["cases"] if c["name"] in ("text", "base", "late-tall", "two")]
for tag in ("q8_0", "q4_k_m"):
    goldens(gold, tiny_b, f"{data}/tiny-b/images", f"tiny-b/{tag}", [files["tiny-b", tag]], b_cases, False)
goldens(gold, tiny_c, f"{out}/tiny-c/images", "tiny-c/q4_k_m", [files["tiny-c", "q4_k_m"]],
        json.load(open(f"{out}/tiny-c/cases.json"))["cases"], True)
goldens(gold, tiny_l, "", "tiny-llama/q8_0", [files["tiny-llama", "q8_0"]],
        json.load(open(f"{data}/tiny-llama/cases.json"))["cases"], False)
save_file(gold, f"{out}/golden.safetensors")
for d, _, fs in os.walk(data):
    for f in fs:
        if "tiny-b" in d or "tiny-llama" in d or "ollama" in d:
            os.chmod(os.path.join(d, f), 0o644)
