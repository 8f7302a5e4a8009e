# SPDX-License-Identifier: MIT
"""compare.py - what logits.py and quantised.py share: running both sides, and distances between rows of logits."""
import array
import math
import os
import random
import subprocess
import sys

SKIP = 77
TOLERANCE = 1e-3     # relative L2 error of a row
GAP = 1e-3           # where the peer's two best logits differ by more, the best token must be the same


def peer():
    """The peer's runner; ends the test as skipped when there is none."""
    path = os.environ.get("PERIGEE_PEER", "")
    if not (path and os.access(path, os.X_OK)):
        print("skipped: PERIGEE_PEER names no runner of the peer")
        sys.exit(SKIP)
    return path


def seed():
    return int(os.environ.get("PERI_SEED", "1"))


def is_long():
    return os.environ.get("PERI_LONG", "") not in ("", "0")


def call(command, **environment):
    """Runs a command; its output goes with the error when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          env={**os.environ, **environment})
    if done.returncode != 0:
        text = done.stdout.decode("utf-8", "replace")[-1500:]
        raise RuntimeError(f"{' '.join(map(str, command))[:300]}: status {done.returncode}: {text}")


def read(path):
    data = array.array("f")
    with open(path, "rb") as f:
        data.frombytes(f.read())
    if sys.byteorder == "big":
        data.byteswap()
    return data


def peer_logits(model, tokens, out):
    call([peer(), "peer-logits", model, out, ",".join(map(str, tokens))])
    return read(out)


def our_logits(perigee, model, tokens, out, *options, **environment):
    # 1,024 tokens of context is what peer-logits opens, and some position encodings depend on it.
    call([perigee, "logits", "-q", "-m", model, "--tokens", ",".join(map(str, tokens)), "-o", out, "--ctx", "1024", *options],
         **environment)
    return read(out)


class Distance:
    """The worst row and the wrong best tokens of ours against theirs."""

    def __init__(self):
        self.rows = self.close = self.wrong = 0
        self.worst = self.sum = 0.0

    def add(self, ours, theirs, n_row):
        if len(ours) != len(theirs) or n_row == 0 or len(theirs) % n_row:
            raise RuntimeError(f"found {len(ours)} logits, expected {len(theirs)} in {n_row} rows")
        width = len(theirs) // n_row
        zero = [0.0] * width
        for i in range(n_row):
            a, b = ours[i * width:(i + 1) * width], theirs[i * width:(i + 1) * width]
            error = math.dist(a, b) / max(math.dist(b, zero), 1e-30)
            if not error <= self.worst:     # a NaN is the worst of all
                self.worst = error
            self.sum += error
            best = max(b)
            at = b.index(best)
            second = max(max(b[:at], default=-math.inf), max(b[at + 1:], default=-math.inf))
            if best - second > GAP:
                self.wrong += a.index(max(a)) != at
            else:
                self.close += 1
            self.rows += 1

    def mean(self):
        return self.sum / max(self.rows, 1)

    def is_good(self, tolerance=TOLERANCE):
        return self.worst < tolerance and self.wrong == 0 and self.rows > 0


def random_tokens(name, n, n_vocab):
    r = random.Random(f"{seed()} {name} {n}")
    return [r.randrange(n_vocab) for _ in range(n)]
