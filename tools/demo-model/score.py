# SPDX-License-Identifier: Apache-2.0
"""Scores by kind, made by puna score: every question of a held-out set asked alone, greedily; right is what equals the
answer.

    generate.py --seed 900 --count 2000 SET; PUNA=build/puna score.py MODEL SET [ANSWERS]

ANSWERS keeps the answers: the same call goes on where an interrupted one stopped, and the wrong ones are listed.
"""
import json
import os
import subprocess
import sys


def main():
    model, folder = sys.argv[1:3]
    answers = sys.argv[3] if len(sys.argv) > 3 else None
    questions = os.path.join(folder, "questions.jsonl")
    puna = os.environ.get("PUNA", "puna")
    if subprocess.run([puna, "score", "-m", model, questions, "--metric", "exact", "-n", "64",
                       *(["-o", answers] if answers else [])]).returncode:
        raise SystemExit(1)
    for line, said in zip(open(questions), open(answers)) if answers else ():
        q, a = json.loads(line), json.loads(said)
        if not a["score"]:
            print(f"{q['kind']:9s} {' '.join(q['images'])} {q['question']!r}: "
                  f"{a['prediction'].strip()!r}, not {q['answer']!r}")


if __name__ == "__main__":
    main()
