# SPDX-License-Identifier: Apache-2.0
"""Trains the demonstration model, or goes on where it stopped.

    train.py --dir /var/tmp/puna-demo

Everything it needs to go on is in DIR/state.pt, written every ten minutes and at SIGTERM. First the
vision encoder alone learns what lies in which patch (--see steps), then all of it learns to answer, and every fourth step is still one of seeing alone. The learning rate is held,
and falls in the last third of the steps; a run that has come to its end can be given more steps: it starts again from
DIR/state-held.pt, the state before the fall. DIR/loss.csv and DIR/score.csv are the curves. What step comes when does
not depend on the clock, so a run that was stopped and went on is the same run.
"""
import argparse
import collections
import fcntl
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait do not take the core from those that work
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import signal
import time

import numpy as np
import torch
import torch.nn.functional as F

import vocabulary
from batches import Batches, make
from generate import CHARS, HELD_OUT
from model import LM, VM, Net, initial

MARKS_WEIGHT = 0.1  # beside answers: at which both targets pull at the encoder alike
FALL = 0.67  # part of the steps after which the learning rate falls


class Optimizer:
    """Muon for the matrices inside layers and the patch embedding (their update is made orthogonal), Adam for everything
    else. One learning rate: both kinds of update are brought to about the same size."""

    def __init__(self, params):
        self.params = params
        inside = lambda n, w: ".layers." in n and w.ndim == 2 or n in ("multi_modal_projector.weight", VM + "patch_embedding.weight")
        shapes = collections.defaultdict(list)
        for n, w in params.items():
            if inside(n, w):
                shapes[w.flatten(1).shape].append(n)
        self.groups = list(shapes.values())
        self.single = [n for n, w in params.items() if not inside(n, w)]
        self.m = {n: torch.zeros_like(w, requires_grad=False) for n, w in params.items()}
        self.v = {n: torch.zeros_like(params[n], requires_grad=False) for n in self.single}
        self.step_count = 0

    @torch.no_grad()
    def step(self, lr):
        self.step_count += 1
        k = self.step_count
        for names in self.groups:
            names = [n for n in names if self.params[n].grad is not None]
            if not names:
                continue
            g = torch.stack([self.params[n].grad.flatten(1) for n in names])
            m = torch.stack([self.m[n].flatten(1) for n in names]).lerp_(g, 0.05)
            for n, a in zip(names, m):
                self.m[n].copy_(a.view_as(self.m[n]))
            x = g.lerp_(m, 0.95).bfloat16()  # Nesterov
            tall = x.shape[-2] > x.shape[-1]
            x = x.mT if tall else x
            x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).bfloat16()
            for _ in range(5):
                a = x @ x.mT
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
            x = (x.mT if tall else x).float() * (0.4 * max(x.shape[-2:]) ** 0.5)
            for n, u in zip(names, x):
                self.params[n].mul_(1 - lr * 0.03).sub_(u.view_as(self.m[n]), alpha=lr)
        for n in self.single:
            p, g = self.params[n], self.params[n].grad
            if g is None:  # a step without any picture, or without any text
                continue
            self.m[n].lerp_(g, 0.1)
            self.v[n].lerp_(g * g, 0.02)
            p.sub_((self.m[n] / (1 - 0.9 ** k)) / ((self.v[n] / (1 - 0.98 ** k)).sqrt() + 1e-10), alpha=0.5 * lr)

    def state(self):
        return dict(m=self.m, v=self.v, step=self.step_count)

    def restore(self, s):
        for d, o in ((self.m, s["m"]), (self.v, s["v"])):
            for n in d:
                d[n].copy_(o[n])
        self.step_count = s["step"]


def forward(net, b):
    """Mean loss of an answer's token, the second target's loss, and logits and places of the answers."""
    states = marks = None
    if "tiles" in b:
        states = net.vision(b["tiles"], b["ratio"], "ids" not in b)
        n, t = b["tiles"].shape[:2]
        y = F.linear(states.view(n, t, -1, states.shape[-1])[:, :, 1:], net.w["marks.weight"], net.w["marks.bias"])
        # cross-entropy of yes or no, summed over everything that could be in a patch
        marks = (F.softplus(y).float().sum() - y[tuple(b["marks"].T)].float().sum()) / max(1, len(b["marks"]))
        if "ids" not in b:
            return None, marks, y, None
        states = states.view(len(b["ids"]), -1, states.shape[-1])
    h = net.text(b["ids"][:, :-1], states, b["seen"][:, :-1] if states is not None else None)
    at = b["owner"][:, 1:] >= 0
    logits = net.logits(h[at])
    loss = F.cross_entropy(logits, b["ids"][:, 1:][at])
    return loss, marks, logits, at


@torch.no_grad()
def letters(y, marks):
    """The part of the printed characters that are the likeliest of all at their patch and place in the word."""
    at = marks[marks[:, 3] < 8 * len(CHARS)]
    said = y[at[:, 0], at[:, 1], at[:, 2], :8 * len(CHARS)].view(-1, len(CHARS), 8)[torch.arange(len(at)), :, at[:, 3] % 8].argmax(-1)
    return float((said == at[:, 3] // 8).float().mean()) if len(at) else float("nan")


@torch.no_grad()
def score(net, batches):
    """kind -> (right, asked): an answer is right when every one of its tokens is the likeliest, which is what greedy
    decoding gives. An answer that stands earlier in its conversation is not counted."""
    net.begin()
    right, asked = collections.Counter(), collections.Counter()
    for b in batches:
        _, _, logits, at = forward(net, b)
        good = torch.ones_like(at)
        good[at] = logits.argmax(-1) == b["ids"][:, 1:][at]
        for i, turns in enumerate(b["turns"]):
            told = set()
            for j, (q, a, kind) in enumerate(turns):
                if kind in ("text", "digits", "caption") and a in told:
                    continue
                told.add(a)
                asked[kind] += 1
                right[kind] += bool(good[i][b["owner"][i, 1:] == j].all())
    return {k: (right[k], asked[k]) for k in sorted(asked)}


def deaf(_):
    """A signal to the whole process group stops the training, which then ends its worker itself."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Average:
    """The parameters' mean over about the last 500 steps: what a falling learning rate would come to, at any time. It is
    what is exported and scored."""

    def __init__(self, net, kept=None):
        self.net, self.p = net, {k: v.detach().clone() for k, v in (kept or net.p).items()}

    @torch.no_grad()
    def step(self):
        for k, v in self.net.p.items():
            self.p[k].lerp_(v, 0.002)


def save(path, net, average, opt, seconds, seen):
    torch.save(dict(params={k: v.detach() for k, v in net.p.items()}, average=average.p, opt=opt.state(), seconds=seconds, seen=seen),
               path + ".new")
    os.replace(path + ".new", path)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--dir", default="/var/tmp/puna-demo")
    p.add_argument("--steps", type=int, default=13000, help="steps in all, about a second of one core each")
    p.add_argument("--see", type=int, default=2500, help="the first steps, with pictures alone")
    p.add_argument("--hours", type=float, default=1e9, help="stop after this time, to go on later")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--parts", type=int, default=1, help="batches to a step")
    p.add_argument("--lr", type=float, default=6e-4)
    p.add_argument("--threads", type=int, default=2)
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(o.seed)
    os.makedirs(o.dir, exist_ok=True)
    lock = open(os.path.join(o.dir, "lock"), "w")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit(f"{o.dir}: another training runs here")
    words = os.path.join(o.dir, "tokenizer")
    if not os.path.exists(os.path.join(words, "tokenizer.json")):
        vocabulary.train(words)
    net = Net(initial(o.seed))
    opt = Optimizer(net.p)
    seconds, seen, kept = 0.0, 0, None
    state, held = os.path.join(o.dir, "state.pt"), os.path.join(o.dir, "state-held.pt")
    if os.path.exists(state):
        s = torch.load(state, weights_only=True)
        if os.path.exists(held) and torch.load(held, weights_only=True)["opt"]["step"] < int(o.steps * FALL):
            if s["opt"]["step"] > torch.load(held, weights_only=True)["opt"]["step"]:
                s = torch.load(held, weights_only=True)  # more steps than before: back to before the fall
        with torch.no_grad():
            for k, v in net.p.items():
                v.copy_(s["params"][k])
        opt.restore(s["opt"])
        seconds, seen, kept = s["seconds"], s["seen"], s.get("average")
        print(f"goes on at step {opt.step_count}, {seconds / 3600:.2f} h, {seen} conversations", flush=True)
    average = Average(net, kept)
    tok = vocabulary.load(words)
    held_out = [make(tok, HELD_OUT, i, 32) for i in range(24)]
    first = opt.step_count * o.parts
    loader = torch.utils.data.DataLoader(Batches(words, o.seed, o.batch, o.see * o.parts), batch_size=None, sampler=range(first, 1 << 30), num_workers=1,
                                         prefetch_factor=6, worker_init_fn=deaf)
    stop = []
    signal.signal(signal.SIGTERM, lambda *a: stop.append(1))
    csv = open(os.path.join(o.dir, "loss.csv"), "a", buffering=1)
    scores = open(os.path.join(o.dir, "score.csv"), "a", buffering=1)
    last = saved = tested = time.monotonic()
    mean = collections.defaultdict(list)
    data = iter(loader)
    until = time.monotonic() + o.hours * 3600
    while opt.step_count < o.steps and not stop and time.monotonic() < until:
        part = opt.step_count / o.steps
        lr = o.lr * min(1.0, (opt.step_count + 1) / 200, max(0.02, (1 - part) / (1 - FALL)))
        for v in net.p.values():
            v.grad = None
        net.begin()
        total = 0
        for _ in range(o.parts):
            b = next(data)
            loss, marks, y, _ = forward(net, b)
            if loss is None:  # pictures alone
                mean["letters"].append(letters(y, b["marks"]))
                total = total + marks / o.parts
            else:
                mean["loss " + b["form"]].append(float(loss.detach()))
                seen += len(b["ids"])
                total = total + (loss if marks is None else loss + MARKS_WEIGHT * marks) / o.parts
            if marks is not None:
                mean["marks"].append(float(marks.detach()))
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_([v for v in net.p.values() if v.grad is not None], 1.0)
        if torch.isfinite(norm):
            opt.step(lr)
            average.step()
        else:
            print(f"step {opt.step_count}: gradient is {norm}, left out", flush=True)
            opt.step_count += 1
        now = time.monotonic()
        seconds += now - last
        last = now
        if opt.step_count % 25 == 0:
            text = " ".join(f"{k.removeprefix('loss ')} {np.nanmean(v):.3f}" for k, v in sorted(mean.items()))
            one = np.mean(mean["loss 1"]) if mean["loss 1"] else float("nan")
            csv.write(f"{opt.step_count},{seen},{seconds:.0f},{lr:.6f},{one:.4f},{np.mean(mean['marks']):.4f}\n")
            print(f"step {opt.step_count} {seen} {seconds / 3600:.3f}h lr {lr:.5f} |g| {float(norm):.2f}: {text}", flush=True)
            mean.clear()
        if opt.step_count == int(o.steps * FALL):
            save(held, net, average, opt, seconds, seen)
        if now - saved > 600:
            save(state, net, average, opt, seconds, seen)
            saved = now
        if now - tested > 1500 and opt.step_count > o.see:
            s = score(Net(average.p), held_out)
            scores.write(f"{opt.step_count},{seen},{seconds:.0f}," + ",".join(f"{k},{a},{n}" for k, (a, n) in s.items()) + "\n")
            print("score " + "  ".join(f"{k} {100 * a / n:.1f}% of {n}" for k, (a, n) in s.items()), flush=True)
            tested = last = time.monotonic()
    save(state, net, average, opt, seconds, seen)
    if opt.step_count == o.steps:
        print("score " + "  ".join(f"{k} {100 * a / n:.1f}% of {n}" for k, (a, n) in score(Net(average.p), held_out).items()), flush=True)


if __name__ == "__main__":
    main()
