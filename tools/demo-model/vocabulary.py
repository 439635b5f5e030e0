# SPDX-License-Identifier: Apache-2.0
"""The tokenizer: Llama 3's byte-level BPE with its own 2032 pieces, Llama's special tokens after them.

Digits never merge, and printed words are kept out of the text it learns from: reading a word is then writing its
letters, which a model that has not met the word can do too.
"""
import json
import os
import re

from generate import sample

PIECES, VOCAB = 2032, 2048  # pieces; with the special tokens. <|image|> is VOCAB: an embedding row, no output row
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
           "<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>",
           "<|python_tag|>", "<|reserved_special_token_2|>", "<|reserved_special_token_3|>", "<|reserved_special_token_4|>",
           "<|reserved_special_token_5|>", "<|reserved_special_token_6|>", "<|image|>"]
IDS = {s: PIECES + i for i, s in enumerate(SPECIAL)}
BOS, EOT, PAD, IMAGE = (IDS[f"<|{n}|>"] for n in ("begin_of_text", "eot_id", "finetune_right_pad_id", "image"))
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
FILL = ["/usr/share/common-licenses/Apache-2.0", "/usr/share/common-licenses/GPL-3"]  # plain English for the pieces that the conversations do not fill


def corpus():
    for i in range(6000):
        for q, a, kind in sample(0, i)["turns"]:
            for t in (q.replace("<|image|>", ""), "" if kind == "text" else a):
                yield re.sub(r"(\d)", r" \1 ", t)
    for month in "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split():
        yield f"system\n\nuser\n\nassistant\n\nCutting Knowledge Date: December 2 0 2 3\nToday Date: 2 {month} 2 0 2 4\n\n"
    for path in FILL:
        yield re.sub(r"\d", " ", open(path).read())


def train(directory):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    # capitals stay single: printed words are mostly capitals, and are read letter by letter
    t.train_from_iterator((re.sub(r"[A-Z]{2,}", lambda m: m.group().lower(), c) for c in corpus()), trainers.BpeTrainer(vocab_size=PIECES, min_frequency=2, show_progress=False,
                                                        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    j = json.loads(t.to_str())
    if len(j["model"]["vocab"]) != PIECES:
        raise SystemExit(f"the text gives {len(j['model']['vocab'])} pieces, not {PIECES}")
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    j["added_tokens"] = [dict(id=i, content=s, **flags) for s, i in IDS.items()]
    j["model"]["ignore_merges"] = True
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "tokenizer.json"), "w") as f:
        json.dump(j, f, ensure_ascii=False, indent=0)
    with open(os.path.join(directory, "tokenizer_config.json"), "w") as f:
        json.dump(dict(added_tokens_decoder={str(i): dict(content=s, **flags) for s, i in IDS.items()},
                       bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", pad_token="<|finetune_right_pad_id|>",
                       clean_up_tokenization_spaces=False, model_input_names=["input_ids", "attention_mask"],
                       model_max_length=2048, tokenizer_class="PreTrainedTokenizerFast"), f, indent=1)


def load(directory):
    from tokenizers import Tokenizer

    return Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
