#!/usr/bin/env python3
"""Trains the demo model on generated conversations.

  python3 train.py --work build --minutes 60

Matrices are trained with momentum whose update is made orthogonal (five Newton-Schulz steps), the embedding and
the norms with AdamW. The rate is constant first and then falls linearly to nothing. The loss counts what the
assistant says (--rest gives the rest of the text a weight too; most of it is random). Drills of copying are a large part of the text at first
and a small one later. A step is a number of small batches of conversations of about one length, which processes
of one thread each take as they come, so that one on a busy core takes fewer; they share the weights. A checkpoint
is written every few minutes and at the end (SIGTERM brings it early); a run that finds one goes on from there.
"""
import os
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"      # the workers are processes
with open("/proc/cpuinfo") as f:
    if " avx512f " in f.read():     # neither library finds out by itself on newer processors
        os.environ["OPENBLAS_CORETYPE"], os.environ["ATEN_CPU_CAPABILITY"] = "SkylakeX", "avx512"
import argparse
import ctypes
import multiprocessing
import random
import signal
import time

import torch
import torch.nn.functional as F

from generate import Generator
from model import CONFIG, Model
from template import Template
from tokenizer import HERE, Tokenizer, train as train_tokenizer


def keep_memory():
    """Has malloc keep what torch frees instead of giving it back and clearing new pages for each tensor."""
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 1 << 30)           # M_MMAP_THRESHOLD
    libc.mallopt(-1, (1 << 31) - 1)     # M_TRIM_THRESHOLD


def encode(tokenizer, template, conversation, rest):
    """Ids and the weight of each as a target."""
    ids, weights = [], []
    for text, said in template.spoken(conversation["messages"], conversation["tools"]):
        part = tokenizer.encode(text)
        ids += part
        weights += [1.0 if said else rest] * len(part)
    return ids, weights


def batches(tokenizer, seed, size, rest, drills):
    """Endless batches of at most `size` tokens, each of conversations of about one length; drills() is the share of drills."""
    template, chunk = Template(), 0
    while True:
        r = random.Random(f"batches {seed} {chunk}")
        data = [encode(tokenizer, template, c, rest) for c in Generator("train", f"{seed}.{chunk}").conversations(1000, drills())]
        data = [d for d in data if len(d[0]) <= CONFIG["context"]]
        data.sort(key=lambda d: len(d[0]))
        out, batch = [], []
        for d in data:
            if batch and len(d[0]) * (len(batch) + 1) > size:
                out.append(batch)
                batch = []
            batch.append(d)
        out.append(batch)
        r.shuffle(out)
        for b in out:
            longest = max(len(ids) for ids, _ in b)
            ids = torch.zeros(len(b), longest, dtype=torch.long)
            weights = torch.zeros(len(b), longest)
            for i, (x, w) in enumerate(b):
                ids[i, :len(x)] = torch.tensor(x)
                weights[i, :len(x)] = torch.tensor(w)
            yield ids, weights
        chunk += 1


def orthogonal(g):
    """Nearly the orthogonal factor of each matrix of a stack, by Newton-Schulz steps."""
    tall = g.shape[1] > g.shape[2]
    x = g.transpose(1, 2) if tall else g
    x = (x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)).bfloat16()
    for _ in range(5):
        a = torch.bmm(x, x.transpose(1, 2))
        x = 3.4445 * x + torch.bmm(-4.7750 * a + 2.0315 * torch.bmm(a, a), x)
    return (x.transpose(1, 2) if tall else x).float()


class Matrices:
    """The optimizer of the matrices."""

    def __init__(self, parameters, momentum=0.95):
        self.groups = {}
        for p in parameters:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.momentum = momentum
        self.state = {s: torch.zeros(len(ps), *s).share_memory_() for s, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, rate, decay, worker, workers):
        """One worker's share of the step: every so many-th matrix of each shape."""
        for shape, ps in self.groups.items():
            ps = ps[worker::workers]
            g, m = torch.stack([p.grad for p in ps]), self.state[shape][worker::workers]
            m.mul_(self.momentum).add_(g, alpha=1 - self.momentum)
            u = orthogonal(g.lerp(m, self.momentum)) * max(1.0, shape[0] / shape[1]) ** 0.5
            for p, d in zip(ps, u):
                p.mul_(1 - rate * decay).add_(d, alpha=-rate)


@torch.no_grad()
def exact(model, tokenizer, split, count, seed=7):
    """The share of assistant messages whose every token is the model's first choice."""
    template, right, total = Template(), 0, 0
    for c in Generator(split, seed).conversations(count):
        ids, weights = encode(tokenizer, template, c, 0.0)
        guess = model(torch.tensor([ids[:-1]]), torch.arange(len(ids) - 1)).argmax(-1)
        ok = True
        for i in range(1, len(ids)):
            if weights[i]:
                ok = ok and int(guess[i - 1]) == ids[i]
                if ids[i] == tokenizer.end:
                    right, total, ok = right + ok, total + 1, True
    return right / total


class Run:
    """The state of a run, in memory that the workers share."""

    def __init__(self, a):
        self.a = a
        self.tokenizer = Tokenizer.load(os.path.join(a.work, "tokenizer.json"))
        assert len(self.tokenizer.tokens) == CONFIG["vocab"]
        torch.manual_seed(a.seed)
        self.model = Model().share_memory()
        named = list(self.model.named_parameters())
        self.parameters = [p for _, p in named]
        self.hidden = [p for n, p in named if p.dim() == 2 and "embedding" not in n]
        self.others = [p for n, p in named if p.dim() != 2 or "embedding" in n]
        self.matrices = Matrices(self.hidden)
        self.adam = torch.optim.AdamW(self.others, lr=a.embedding_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.gradients = torch.zeros(a.workers, sum(p.numel() for p in self.parameters)).share_memory_()
        self.counts = torch.zeros(a.workers, 4, dtype=torch.double).share_memory_()      # of a step: weight, loss, targets, tokens
        self.control = torch.zeros(2, dtype=torch.double).share_memory_()                # rate, or -1 for the end; share of drills
        context = multiprocessing.get_context("fork")
        self.barrier, self.taken = context.Barrier(a.workers), context.Value("i", 0)
        self.path = os.path.join(a.work, "checkpoint.pt")
        self.step, self.spent, self.seen, self.stop = 0, 0.0, 0, False
        if os.path.exists(self.path):
            saved = torch.load(self.path)
            self.model.load_state_dict(saved["model"])
            for shape, m in saved["matrices"].items():
                self.matrices.state[shape].copy_(m)
            self.adam.load_state_dict(saved["adam"])
            self.step, self.spent, self.seen = saved["step"], saved["spent"], saved["seen"]
            print(f"going on from step {self.step}", flush=True)

    def save(self):
        torch.save({"model": self.model.state_dict(), "matrices": self.matrices.state, "adam": self.adam.state_dict(), "step": self.step,
                    "spent": self.spent, "seen": self.seen, "config": self.model.config}, self.path + ".new")
        os.replace(self.path + ".new", self.path)

    def source(self, worker):
        return batches(self.tokenizer, f"{self.a.seed}.{worker}.{self.step}", self.a.batch, self.a.rest, lambda: float(self.control[1]))

    def take(self):
        """Whether a batch of this step is left for the caller."""
        with self.taken.get_lock():
            self.taken.value += 1
            return self.taken.value <= self.a.batches

    def gradient(self, worker, source):
        """Adds up the gradients of the batches that this worker gets to take."""
        for p in self.parameters:
            p.grad = None
        counts = [0.0] * 4
        while self.take():
            ids, weights = next(source)
            w = weights[:, 1:].flatten()
            keep = w.nonzero()[:, 0]
            w = w[keep]
            loss = F.cross_entropy(self.model(ids[:, :-1], keep), ids[:, 1:].flatten()[keep], reduction="none")
            (loss * w).sum().backward()
            said = loss.detach()[w == 1]
            counts = [x + y for x, y in zip(counts, (float(w.sum()), float(said.sum()), len(said), ids.numel()))]
        self.counts[worker] = torch.tensor(counts, dtype=torch.double)
        if counts[0]:
            torch.cat([p.grad.flatten() for p in self.parameters], out=self.gradients[worker])
        else:
            self.gradients[worker].zero_()

    def update(self, worker):
        """This worker's share of a step of the optimizers, with the mean of all gradients."""
        mean, at = self.gradients.sum(0).div_(float(self.counts[:, 0].sum())), 0
        for p in self.parameters:
            p.grad = mean[at:at + p.numel()].view_as(p)
            at += p.numel()
        factor = float(self.control[0])
        if worker == 0:
            self.taken.value = 0
            torch.nn.utils.clip_grad_norm_(self.others, 1.0)
            for g in self.adam.param_groups:
                g["lr"] = self.a.embedding_rate * factor
            self.adam.step()
        self.matrices.step(self.a.rate * factor, 0.1, worker, self.a.workers)

    def work(self, worker):
        """What the workers besides the first do."""
        source = self.source(worker)
        while True:
            self.barrier.wait()
            if self.control[0] < 0:
                return
            self.gradient(worker, source)
            self.barrier.wait()
            self.update(worker)
            self.barrier.wait()

    def lead(self):
        """What the first worker does: its work, the schedule, the log and the checkpoints."""
        a = self.a
        source = self.source(0)
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop", True))
        start = time.time() - self.spent
        last, mark, marked, losses = time.time(), time.time(), self.seen, []
        while True:
            self.spent = time.time() - start
            done = self.spent / (60 * a.minutes) if a.minutes else self.step / a.steps
            if done >= 1 or self.stop:
                break
            self.control[0] = min(1.0, (self.step + 1) / 40) * min(1.0, (1 - done) / (1 - a.flat))
            self.control[1] = max(a.drills, 0.7 - 0.7 * self.step / a.drill_steps)
            self.barrier.wait()
            self.gradient(0, source)
            self.barrier.wait()
            self.update(0)
            self.barrier.wait()
            self.step += 1
            _, lost, targets, tokens = self.counts.sum(0).tolist()
            losses.append(lost / targets)
            self.seen += int(tokens)
            if self.step % 20 == 0:
                now = time.time()
                left = a.minutes * 60 - (now - start) if a.minutes else (a.steps - self.step) * (now - mark) / 20
                print(f"step {self.step} loss {sum(losses) / len(losses):.4f} {(self.seen - marked) / (now - mark):.0f} tokens/s, "
                      f"{self.seen / 1e6:.2f} M seen, rate {float(self.control[0]):.3f}, {left / 60:.1f} min left", flush=True)
                mark, marked, losses = now, self.seen, []
            if time.time() - last > 60 * a.save_minutes:
                self.save()
                last = time.time()
        self.control[0] = -1
        self.barrier.wait()
        self.save()
        print(f"{self.step} steps, {self.seen / 1e6:.2f} M tokens, {self.spent / 60:.1f} minutes", flush=True)


def main():
    p = argparse.ArgumentParser(description="train the demo model")
    p.add_argument("--work", default=os.path.join(HERE, "build"), help="folder of vocabulary and checkpoint")
    p.add_argument("--minutes", type=float, help="end after so long (the schedule follows the clock)")
    p.add_argument("--steps", type=int, default=6000, help="end after so many steps (without --minutes)")
    p.add_argument("--batch", type=int, default=1280, help="tokens of a batch at most")
    p.add_argument("--batches", type=int, default=4, help="batches of a step")
    p.add_argument("--rate", type=float, default=0.02, help="rate of the matrices")
    p.add_argument("--embedding-rate", type=float, default=0.003)
    p.add_argument("--flat", type=float, default=0.4, help="part of the run before the rate falls")
    p.add_argument("--rest", type=float, default=0.0, help="weight of text that the assistant does not say")
    p.add_argument("--drills", type=float, default=0.1, help="share of drills in the end")
    p.add_argument("--drill-steps", type=int, default=2600, help="steps until nearly so few")
    p.add_argument("--save-minutes", type=float, default=8)
    p.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_memory()
    os.makedirs(a.work, exist_ok=True)
    vocabulary = os.path.join(a.work, "tokenizer.json")
    if not os.path.exists(vocabulary):
        template = Template()
        train_tokenizer([template.render(c["messages"], c["tools"]) for c in Generator("train", a.seed).conversations(3000)], CONFIG["vocab"]).save(vocabulary)
    run = Run(a)
    print(f"{sum(p.numel() for p in run.parameters)} parameters", flush=True)
    others = [multiprocessing.get_context("fork").Process(target=run.work, args=(i,), daemon=True) for i in range(1, a.workers)]
    for o in others:
        o.start()
    run.lead()
    for split in () if run.stop else ("eval-values", "eval-phrasings"):
        print(f"{split}: {exact(run.model, run.tokenizer, split, 60):.3f} of the messages exact", flush=True)


if __name__ == "__main__":
    main()
