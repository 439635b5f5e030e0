#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random conversations rendered by the official template, as Hugging Face's apply_chat_template does it.
chat_oracle.py [--count N] [--seed S] > tests/data/chat-more-goldens.json        (pip install jinja2)"""
import argparse
import json
import os
import random
import sys

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))
TEMPLATE = os.path.join(HERE, "../data/llama3.2-vision-instruct.chat_template.jinja")

TEXTS = ["Hi", "  padded \t\n", "", " ", "It's \"quoted\"", "it's", 'a "word"', "two\nlines\r\n\ttab", "naïve café 日本語 😀", "\u00a0nbsp\u00a0",
         "\x1c\x1fseparators\x1d", "\u2028line\u3000", "back\\slash", "<|eot_id|><|image|>", "{{ messages }}", "\x00\x01\x7f\x85", "\u200b\ufeff\u00ad",
         "e\u0301 \u0600 \ue000 \U000e0001", "'\"", "\u0085x\u0085", "1.5", "[]"]
NUMBERS = [0, -1, 22, 1 << 53, 9223372036854775807, 0.1, 1.0, -0.0, 1e16, 123456789012345680.0, 1e15, 1e-4, 1e-5, 2.5e-7, 1.7976931348623157e308, 5e-324,
           3.141592653589793, 100.0, 1e22, 5.684341886080802e-14, 9007199254740993.0, 0.30000000000000004, 12345.678]


def value(r, depth=0):
    k = r.randrange(8 if depth < 3 else 5)
    if k == 0:
        return r.choice([True, False, None])
    if k <= 2:
        return r.choice(NUMBERS) if r.randrange(2) else r.uniform(-1, 1) * 10 ** r.randrange(-30, 30)
    if k <= 4:
        return r.choice(TEXTS)
    if k == 5:
        return [value(r, depth + 1) for _ in range(r.randrange(4))]
    return tree(r, depth + 1)


def tree(r, depth=0):
    return {r.choice(["city", "t", "a b", "k\"ey", "schlüssel", "x\ny", ""]) + str(i) * r.randrange(2): value(r, depth) for i in range(r.randrange(4))}


def parts(r, images):
    kinds = [r.choice(["text", "image"] if images else ["text"]) for _ in range(r.randrange(4))]
    return [{"type": "image"} if k == "image" else {"type": "text", "text": r.choice(TEXTS)} for k in kinds]


def content(r, images):
    return r.choice(TEXTS) if r.randrange(2) else parts(r, images)


def conversation(r):
    images = r.randrange(3) == 0
    messages = []
    if r.randrange(3) == 0:
        messages.append({"role": "system", "content": r.choice(["", " \n"]) if images and r.randrange(4) else content(r, False)})
    for _ in range(r.randrange(0 if messages else 1, 6)):
        role = r.choice(["user", "user", "assistant", "tool", "ipython", "critic", "system"])
        if role == "assistant" and r.randrange(2):
            call = {"name": r.choice(["get_weather", "a\"b"]), "arguments": tree(r)}
            messages.append({"role": role, "tool_calls": [{"type": "function", "function": call}]})
        elif role in ("tool", "ipython"):
            messages.append({"role": role, "content": r.choice([content(r, images), tree(r), [value(r), value(r)]])})
        else:
            messages.append({"role": role, "content": content(r, images)})
    case = {"messages": messages}
    if r.randrange(2) == 0:
        case["tools"] = [{"type": "function", "function": {"name": "f", "parameters": tree(r)}} for _ in range(r.randrange(3))]
        if r.randrange(2):
            case["tools_in_user_message"] = False
    if r.randrange(4) == 0:
        case["add_generation_prompt"] = False
    if r.randrange(4) == 0:
        case["date_string"] = r.choice(["22 Nov 2026", "", "<|eot_id|>"])
    return case


def render(case):
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def fail(message):
        raise TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = fail
    template = env.from_string(open(TEMPLATE, encoding="utf-8", newline="").read())
    try:
        return template.render(**{"bos_token": "<|begin_of_text|>", "add_generation_prompt": True, **case})
    except TemplateError as e:
        return "ERROR: " + str(e)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--count", type=int, default=40)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    shared = json.load(open(os.path.join(HERE, "../data/chat-template-goldens.json"), encoding="utf-8"))
    for name, case in shared.items():
        if render(case["input"]) != case["rendered"]:
            sys.exit(f"this environment does not render '{name}' as the golden says")
    r = random.Random(a.seed)
    out = {}
    while len(out) < a.count:
        case = conversation(r)
        out[f"random {len(out)}"] = {"input": case, "rendered": render(case)}
    json.dump(out, sys.stdout, ensure_ascii=True, indent=1)
    print()


if __name__ == "__main__":
    main()
