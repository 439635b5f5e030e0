# SPDX-License-Identifier: Apache-2.0
"""The reference: Hugging Face transformers in float32, eager attention, with either treatment of the rows
before the first picture.

transformers must be 4.45 ... 4.54: later ones take other hidden states as intermediate features.
"""
import json
import os

os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import PIL
import torch
import transformers
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file
from transformers import LlamaConfig, LlamaForCausalLM, MllamaConfig, MllamaForConditionalGeneration
from transformers import MllamaImageProcessor, PreTrainedTokenizerFast

if not (4, 45) <= tuple(int(x) for x in transformers.__version__.split(".")[:2]) <= (4, 54):
    raise SystemExit(f"transformers {transformers.__version__} is not an oracle for mllama: use 4.45 ... 4.54")

if int(PIL.__version__.split(".")[0]) >= 13:
    raise SystemExit(f"Pillow {PIL.__version__} resizes vertically first when that is cheaper; use 9.4 ... 12.3")


def load_safetensors(directory):
    """All tensors of a hub directory as float32 torch tensors."""
    out = {}
    for f in sorted(os.listdir(directory)):
        if f.endswith(".safetensors"):
            with safe_open(os.path.join(directory, f), "pt") as s:
                for k in s.keys():
                    out[k] = s.get_tensor(k).float()
    return out


class Reference:
    """One model. weights: float32 tensors by hub name (default: those of the directory)."""

    def __init__(self, directory, weights=None):
        self.dir = directory
        cfg = json.load(open(os.path.join(directory, "config.json")))
        if weights is None:
            weights = load_safetensors(directory)
        self.vision = cfg["model_type"] == "mllama"
        if self.vision:
            config = MllamaConfig.from_dict(cfg)
            config._attn_implementation = "eager"
            self.model = MllamaForConditionalGeneration._from_config(config, attn_implementation="eager")
        else:
            config = LlamaConfig.from_dict(cfg)
            self.model = LlamaForCausalLM._from_config(config, attn_implementation="eager")
        self.model.float().eval()
        if config.tie_word_embeddings if not self.vision else cfg["text_config"].get("tie_word_embeddings"):
            if self.vision:  # transformers 4.49 has no tying for mllama with 8 more embedding rows
                n = cfg["text_config"]["vocab_size"]
                weights = dict(weights)
                weights["language_model.lm_head.weight"] = weights["language_model.model.embed_tokens.weight"][:n]
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        missing = [m for m in missing if m != "lm_head.weight" or not config.tie_word_embeddings]
        if missing or unexpected:
            raise SystemExit(f"{directory}: missing {missing[:5]}, unexpected {unexpected[:5]}")
        if not self.vision:
            self.model.tie_weights()
        self.config = config
        self.meta_rows = True
        if self.vision:
            self.image_token = config.image_token_index
            self.processor = MllamaImageProcessor.from_pretrained(directory)
            for layer in self.model.language_model.model.layers:
                if hasattr(layer, "cross_attn"):
                    layer.register_forward_pre_hook(self._keep_mask, with_kwargs=True)
                    layer.cross_attn.register_forward_hook(self._meta_rule)
        self.tokenizer = None
        if os.path.exists(os.path.join(directory, "tokenizer.json")):
            self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(directory, "tokenizer.json"))

    def _keep_mask(self, module, args, kwargs):
        self.row_mask = kwargs["full_text_row_masked_out_mask"]

    def _meta_rule(self, module, args, output):
        if not self.meta_rows or self.row_mask is None:
            return output
        return (output[0] * self.row_mask[:, 0],) + tuple(output[1:])

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def pictures(self, images):
        """PIL images (not 1 or 3 pixels high: transformers takes those rows for channels) -> pixel_values [n,4,3,S,S], aspect_ratio_ids [n], num_tiles [n]"""
        p = self.processor([list(images)], return_tensors="np")
        return (p["pixel_values"][0].astype(np.float32), p["aspect_ratio_ids"][0], np.array(p["num_tiles"][0]),
                p["aspect_ratio_mask"][0])

    @torch.no_grad()
    def features(self, pixel_values, ratio_ids, ratio_mask):
        out = self.model.vision_model(torch.tensor(pixel_values)[None], torch.tensor(ratio_ids)[None],
                                      torch.tensor(ratio_mask)[None])
        return out.last_hidden_state[0].numpy()

    def intervals(self, ids):
        """Rows [start, end) that see each picture."""
        at = [i for i, t in enumerate(ids) if t == self.image_token]
        spans = [[a, b] for a, b in zip(at, at[1:] + [len(ids)])]
        end = len(ids)
        for s in reversed(spans):
            if s[1] == s[0] + 1:
                s[1] = end
            end = s[1]
        return spans

    def cross_mask(self, ids, num_tiles):
        mask = np.zeros((len(ids), len(num_tiles), self.config.vision_config.max_num_tiles), np.int64)
        for j, (a, b) in enumerate(self.intervals(ids)):
            mask[a:b, j, :num_tiles[j]] = 1
        return mask

    @torch.no_grad()
    def logits(self, ids, images=(), hf_rows=False):
        kw = {}
        if images:
            px, ratio, tiles, rmask = self.pictures(images)
            kw = dict(pixel_values=torch.tensor(px)[None], aspect_ratio_ids=torch.tensor(ratio)[None],
                      aspect_ratio_mask=torch.tensor(rmask)[None],
                      cross_attention_mask=torch.tensor(self.cross_mask(ids, tiles))[None])
        self.meta_rows = not hf_rows
        self.row_mask = None
        out = self.model(input_ids=torch.tensor([ids]), use_cache=False, **kw)
        return out.logits[0].float().numpy()

    def greedy(self, ids, images, n):
        """Tokens and the smallest gap between the two best logits, recomputing everything for every token. A
        lone picture's interval runs to the end; with several, the last group's does (as transformers generates)."""
        ids, out, gap = list(ids), [], np.inf
        for _ in range(n):
            row = self.logits(ids, images)[-1]
            best = np.sort(row)[-2:]
            gap = min(gap, float(best[1] - best[0]))
            out.append(int(row.argmax()))
            ids.append(out[-1])
        return out, gap


def write_goldens(directory, cases, greedy=16):
    """directory/{model,images}: computes cases.json and golden.safetensors (the format of tiny-a)."""
    ref = Reference(os.path.join(directory, "model"))
    gold, listing = {}, []
    for name, prompt, pics in cases:
        images = [Image.open(os.path.join(directory, "images", p + ".png")) for p in pics]
        ids = ref.ids(prompt)
        case = dict(name=name, prompt=prompt, images=list(pics), ids=ids)
        if images:
            px, ratio, tiles, rmask = ref.pictures(images)
            feats = ref.features(px, ratio, rmask)
            case.update(aspect_ratio_ids=[int(r) for r in ratio], num_tiles=[int(t) for t in tiles])
            gold[name + "/pixel_values"] = np.ascontiguousarray(px)
            gold[name + "/vision_features"] = np.ascontiguousarray(feats)
        gold[name + "/logits"] = np.ascontiguousarray(ref.logits(ids, images))
        gold[name + "/logits_hf_rows"] = np.ascontiguousarray(ref.logits(ids, images, hf_rows=True))
        case["greedy"], case["min_gap"] = ref.greedy(ids, images, greedy)
        listing.append(case)
    save_file(gold, os.path.join(directory, "golden.safetensors"))
    with open(os.path.join(directory, "cases.json"), "w") as f:
        json.dump(dict(transformers=transformers.__version__, cases=listing), f, indent=1)
        f.write("\n")


def check_goldens(directory):
    """The oracle against goldens made elsewhere. Returns the largest difference."""
    ref = Reference(os.path.join(directory, "model"))
    worst = 0.0
    with safe_open(os.path.join(directory, "golden.safetensors"), "np") as g:
        for c in json.load(open(os.path.join(directory, "cases.json")))["cases"]:
            images = [Image.open(os.path.join(directory, "images", p + ".png")) for p in c["images"]]
            n = c["name"]
            if ref.ids(c["prompt"]) != c["ids"]:
                raise SystemExit(f"{n}: token ids differ")
            d = {}
            for key, hf in (("logits", False), ("logits_hf_rows", True)):
                d[key] = float(np.abs(ref.logits(c["ids"], images, hf) - g.get_tensor(f"{n}/{key}")).max())
            if images:
                px, ratio, tiles, rmask = ref.pictures(images)
                assert [int(x) for x in ratio] == c["aspect_ratio_ids"] and [int(t) for t in tiles] == c["num_tiles"]
                d["pixel_values"] = float(np.abs(px - g.get_tensor(f"{n}/pixel_values")).max())
                d["vision_features"] = float(
                    np.abs(ref.features(px, ratio, rmask) - g.get_tensor(f"{n}/vision_features")).max())
            toks, gap = ref.greedy(c["ids"], images, len(c["greedy"]))
            d["greedy"] = float(toks != c["greedy"])
            print(f"{n:12s} " + "  ".join(f"{k} {v:.2e}" for k, v in d.items()) + f"  gap {gap:.4f}/{c['min_gap']:.4f}")
            worst = max(worst, *d.values())
    return worst


if __name__ == "__main__":
    import sys

    w = check_goldens(sys.argv[1])
    print(f"largest difference {w:.3e}")
    sys.exit(w > 1e-3)
