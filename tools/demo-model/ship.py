# SPDX-License-Identifier: Apache-2.0
"""Makes what stands in models/demo/ and tests/data/demo/ from a training state.

    PUNA=build/puna ship.py --dir /var/tmp/puna-demo

models/demo/demo.gguf       Q8_0, vision tower too: what is installed
models/demo/example.png     the picture of the README and of ./bootstrap demo
tests/data/demo/            pictures of every form, and questions.tsv: pictures, question, and the answer puna gives
Questions are those of the held-out seed 901, in turn by kind, of which each token of the answer is far likelier than the next
best: such answers do not hang on the last bit of a kernel. The answers are puna's, right or wrong; how many are right is printed.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import export  # noqa: E402
import generate  # noqa: E402
import torch  # noqa: E402

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
KINDS = ["shape", "text", "chart", "digits", "count", "pair", "colour", "position", "caption", "text", "chart", "chat", "digits", "pair"]
SURE = 2.0  # nats between the best token and the next


def ask(puna, model, images, question):
    pictures = [a for i in images for a in ("-i", i)]
    r = subprocess.run([puna, "run", "-m", model, *pictures, "-p", question, "--temp", "0", "-n", "64", "--json", "--logprobs", "2"],
                       capture_output=True, text=True, check=True)
    j = json.loads(r.stdout)
    gap = min((t["top"][0]["logprob"] - (t["top"][1]["logprob"] if t["top"][1]["logprob"] is not None else -99)) for t in j["logprobs"])
    return j["text"], gap


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--dir", default="/var/tmp/puna-demo")
    p.add_argument("--seed", type=int, default=901)
    o = p.parse_args()
    puna = os.environ.get("PUNA", "puna")
    out, demo, data = (os.path.join(o.dir, "out"), os.path.join(TOP, "models/demo"), os.path.join(TOP, "tests/data/demo"))
    s = torch.load(os.path.join(o.dir, "state.pt"), weights_only=True)
    export.hub(os.path.join(out, "hub"), s["average"], os.path.join(o.dir, "tokenizer"))
    os.makedirs(demo, exist_ok=True)
    model = os.path.join(demo, "demo.gguf")
    subprocess.run([puna, "quantize", os.path.join(out, "hub"), model, "--type", "Q8_0", "--vision", "Q8_0", "--force"], check=True)
    shutil.rmtree(data, ignore_errors=True)
    os.makedirs(data)
    rows, right, i, wanted = [], 0, 0, list(KINDS)
    while wanted and i < 4000:
        sample = generate.sample(o.seed, i)
        i += 1
        q, a, kind = sample["turns"][0]
        if kind != wanted[0] or q.count("<|image|>") != len(sample["images"]):
            continue
        if len(sample["images"]) == 1:
            q = q.removeprefix("<|image|>")
        names = [f"{len(rows):02d}{'ab'[j] if len(sample['images']) > 1 else ''}.png" for j in range(len(sample["images"]))]
        for n, img in zip(names, sample["images"]):
            img.save(os.path.join(data, n), optimize=True)
        text, gap = ask(puna, model, [os.path.join(data, n) for n in names], q)
        if gap < SURE or "\t" in q + text or "\n" in text:
            for n in names:
                os.remove(os.path.join(data, n))
            continue
        rows.append((",".join(names) or "-", q, text))
        right += text == a
        wanted.pop(0)
    with open(os.path.join(data, "questions.tsv"), "w") as f:
        f.writelines("\t".join(r) + "\n" for r in rows)
    print(f"{len(rows)} questions in {data}, {right} of the answers are right; step {s['opt']['step']}")


if __name__ == "__main__":
    main()
