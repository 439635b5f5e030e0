# SPDX-License-Identifier: Apache-2.0
"""Pictures for doc/: the loss curve, and samples of the training data with a question and its answer.

    plot.py [--dir /var/tmp/puna-demo] DOC       writes DOC/demo-loss.png and DOC/demo-samples.png (needs matplotlib)
"""
import argparse
import csv
import os
import textwrap

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from generate import sample  # noqa: E402


def loss(directory, out):
    rows = list(csv.reader(open(os.path.join(directory, "loss.csv"))))
    step, answer, marks = ([float(r[i]) for r in rows] for i in (0, 4, 5))
    fig, a = plt.subplots(figsize=(8, 4))
    a.plot(step, answer, label="an answer's token, one-tile pictures")
    a.plot(step, marks, label="what lies in which patch (second target)")
    a.set(xlabel="step of 32 conversations", ylabel="loss, nats", yscale="log", title="Training of the demonstration model")
    a.grid(alpha=0.3, which="both")
    a.legend()
    a2 = a.twinx()
    a2.plot(step, [float(r[3]) for r in rows], color="grey", linewidth=0.8)
    a2.set(ylabel="learning rate (grey)", ylim=(0, None))
    fig.tight_layout()
    fig.savefig(out, dpi=90)


def samples(out, seed=1, rows=4, columns=6):
    fig, axes = plt.subplots(rows, columns, figsize=(12, 10))
    taken, i = 0, 0
    forms = ["1", "2", "1", "4", "1", "3"]
    while taken < rows * columns:
        s = sample(seed, i, forms[taken % len(forms)])
        i += 1
        q, a, _ = s["turns"][0]
        at = axes.flat[taken]
        at.imshow(s["images"][0])
        at.set_xticks([])
        at.set_yticks([])
        at.set_title("\n".join(textwrap.wrap(q.removeprefix("<|image|>"), 26) + textwrap.wrap(a, 26)), fontsize=8)
        taken += 1
    fig.tight_layout()
    fig.savefig(out, dpi=80)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--dir", default="/var/tmp/puna-demo")
    p.add_argument("doc")
    o = p.parse_args()
    loss(o.dir, os.path.join(o.doc, "demo-loss.png"))
    samples(os.path.join(o.doc, "demo-samples.png"))
