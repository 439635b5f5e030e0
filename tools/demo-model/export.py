# SPDX-License-Identifier: Apache-2.0
"""A training state as a model: a hub directory, and one GGUF file in Ollama's combined layout.

    export.py --dir /var/tmp/puna-demo OUT       writes OUT/hub/ and OUT/demo-f16.gguf
"""
import argparse
import json
import os
import shutil
import sys

import torch
from safetensors.torch import save_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/oracle"))
import hub2gguf  # noqa: E402
from model import CONFIG, MEAN, STD, shapes  # noqa: E402


def hub(directory, params, tokenizer):
    os.makedirs(directory, exist_ok=True)
    put = lambda name, j: json.dump(j, open(os.path.join(directory, name), "w"), indent=1)
    put("config.json", CONFIG)
    save_file({k: params[k].detach().float().contiguous() for k in shapes()}, os.path.join(directory, "model.safetensors"),
              metadata={"format": "pt"})
    text, v = CONFIG["text_config"], CONFIG["vision_config"]
    put("generation_config.json", {k: text[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id")} | {"do_sample": False})
    put("preprocessor_config.json", {
        "do_convert_rgb": True, "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True, "image_mean": MEAN,
        "image_std": STD, "image_processor_type": "MllamaImageProcessor", "max_image_tiles": v["max_num_tiles"], "resample": 2,
        "rescale_factor": 1 / 255, "size": {"height": v["image_size"], "width": v["image_size"]}})
    for f in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(os.path.join(tokenizer, f), os.path.join(directory, f))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--dir", default="/var/tmp/puna-demo")
    p.add_argument("out")
    o = p.parse_args()
    s = torch.load(os.path.join(o.dir, "state.pt"), weights_only=True)
    hub(os.path.join(o.out, "hub"), s["average"], os.path.join(o.dir, "tokenizer"))
    hub2gguf.write_combined(os.path.join(o.out, "hub"), os.path.join(o.out, "demo-f16.gguf"))
    print(f"{s['seconds'] / 3600:.2f} h of training, {sum(s['params'][k].numel() for k in shapes())} parameters")


if __name__ == "__main__":
    main()
