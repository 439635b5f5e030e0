# SPDX-License-Identifier: Apache-2.0
"""Scores by kind, made by puna: every question of a held-out set asked alone, greedily; right is what equals the answer.

    generate.py --seed 900 --count 2000 SET; PUNA=build/puna score.py MODEL SET
"""
import collections
import json
import os
import subprocess
import sys


def main():
    model, folder = sys.argv[1:3]
    puna = os.environ.get("PUNA", "puna")
    right, asked = collections.Counter(), collections.Counter()
    for line in open(os.path.join(folder, "questions.jsonl")):
        q = json.loads(line)
        pictures = [a for i in q["images"] for a in ("-i", os.path.join(folder, i))]
        r = subprocess.run([puna, "run", "-m", model, *pictures, "-p", q["question"], "--temp", "0", "-n", "64"],
                           capture_output=True, text=True)
        if r.returncode:
            raise SystemExit(f"{q}: {r.stderr}")
        asked[q["kind"]] += 1
        right[q["kind"]] += r.stdout.strip() == q["answer"]
        if len(sys.argv) > 3 and r.stdout.strip() != q["answer"]:
            print(f"{q['kind']:9s} {' '.join(q['images'])} {q['question']!r}: {r.stdout.strip()!r}, not {q['answer']!r}")
    for k in sorted(asked):
        print(f"{k:9s} {100 * right[k] / asked[k]:5.1f} % of {asked[k]}")


if __name__ == "__main__":
    main()
