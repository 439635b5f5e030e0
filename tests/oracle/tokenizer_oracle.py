#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tricky strings with their ids by Hugging Face's tokenizers, for the tokenizer of a model folder.
tokenizer_oracle.py [--count N] [--seed S] [FOLDER] > tests/data/tokenizer-tiny-goldens.json        (pip install tokenizers)"""
import argparse
import json
import os
import random
import sys

import tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))

FIXED = ["", " ", "  ", "\n", "\n\n", "\r\n", "\r\n\r\n", " \n", "\n ", " \n ", "  \n  \n  x", "\t", "a\t\tb", "a b", "a  b", "a   b", "a ", "a  ", " a", "  a",
         "\u00a0a", "\u00a0\u00a0a", " \u00a0", "\u00a0 ", "\u2003 x", "\u3000x", "\u1680x", "\u2028\u2029", "\u0085x", "\x0b\x0cx", "\u180ex", "\u200bx", "\ufeffx", "\x1cx",
         "'s", "'S", "'\u017f", "x'\u017fx", "'ſt", "'t'T", "'re'RE'Re'rE", "'ve'VE", "'m'M", "'ll'LL'lL", "'d'D", "'l", "'r", "'v", "''s", " 's", "I'm don't WE'LL they'Re",
         "'\u212a", "'LLama", "'sx", "'", "''", "1", "12", "123", "1234", "12345678901", "1a2b", "½⅓Ⅷ", "٣٤٥٦", "3.14159", "-1e-5", "１２３４",
         ".", "...", " ...", ".\n", ".\n\n", "!!\r\n\r\nx", "?!\n \n", " .", "  .", "_under_score", "foo(bar){baz};", "a.b,c", "<|eot_id|>", "<|eot_id|", "<|image|>x<|image|>",
         "<|begin_of_text|>a<|eot_id|>\n\n", "<|not_special|>", "<|reserved_special_token_1|><|reserved_special_token_12|>", "<<|eot_id|>>", "<|<|eot_id|>|>",
         "日本語テスト", "日本語 テスト。", "привет мир", "ПРИВЕТ", "مرحبا بالعالم", "नमस्ते दुनिया", "한국어", "ไทย", "e\u0301", "\u0301", " \u0301x", "a\u0301'S",
         "😀", "😀👍🏽", "👨\u200d👩\u200d👧", " 😀", "a😀b", "🇩🇪", "𝔘𝔫𝔦", "\U00010000", "\U0010ffff", "\ue000", "\u0000", "\u0000\u0001\u007f", "ǅ", "ﬁ", "ß", "İi",
         "The license of the program", "    if x:\n        return y\n", "\n" * 20, " " * 33, "\t" * 9 + "x", "a" * 40, "the" * 20, "\u00a0" * 7 + "x", "'" * 9, "1" * 10,
         " \t \n \r x", "x\r\ry", "x \r\n y", "\r \n", "\n\r", "a\u2028b", "a\u2028\nb", "x\n\u2028 y"]
BITS = [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u2003", "\u3000", "\u0085", "'s", "'S", "'ſ", "'LL", "'", "the", "The", " license", "é", "日本", "नमस्ते", "😀", "e\u0301",
        "1", "12", "123", "½", ".", "!?", "()", "_", "<|eot_id|>", "<|image|>", "<|", "\u200d", "\x00", "Ä", "я", "\u05d0", "\U0001d518"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", nargs="?", default=os.path.join(HERE, "../data/tiny-a/model"))
    p.add_argument("--count", type=int, default=300)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    t = tokenizers.Tokenizer.from_file(os.path.join(a.folder, "tokenizer.json"))
    r = random.Random(a.seed)
    texts = list(FIXED)
    while len(texts) < a.count:
        texts.append("".join(r.choice(BITS) for _ in range(r.randrange(1, 16))))
    cases = [{"text": s, "ids": t.encode(s, add_special_tokens=False).ids} for s in texts]
    json.dump({"note": f"tokenizers {tokenizers.__version__}, specials parsed", "cases": cases}, sys.stdout, ensure_ascii=True, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
