#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""samplers.py --driver SMP_DRIVER --perigee PROGRAM --model MODEL.gguf - our sampler against the peer's.

1. The library: every chain of tests/cases/sampler/chains.txt on random logits (flat, peaked, with equal and masked ones; a
   small vocabulary, one of 6,000, that of MODEL) and histories that repeat themselves: the same survivors, each
   probability within 1e-5.
2. The server: the chains marked so, on the F32 form of MODEL, the logits from the peer for the same tokens.
3. Greedy text: 256 tokens on F32 files, equal to llama-completion's.

A cut whose limit falls between two candidates within the rounding of the peer's float sums may keep one more on one side:
such a case is listed as close when only the last candidate differs, it has less than 1 %, and the rest agree up to the
common factor. With top_p or typ_p alone more may differ, because the peer sums thousands of probabilities in f32 (6,000 of them
came to 2.8e-5 too little): such a case is close when ours is what exact sums keep and the peer's what f32 sums keep, each to the
candidate.

PERIGEE_PEER names the peer's runner (status 77 without it), PERI_SEED the seed, -n the rows per chain and vocabulary.
"""
import argparse
import array
import itertools
import json
import math
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from compare import call, peer, peer_logits, seed

HERE = os.path.dirname(os.path.realpath(__file__))
CHAINS = os.path.join(HERE, "..", "cases", "sampler", "chains.txt")
TOLERANCE = 1e-5
ROW_KINDS = 6


class Chain:
    def __init__(self, line):
        self.name, rest = line.split(": ", 1)
        words = rest.split()
        self.settings = [w for w in words if "=" in w and not w.startswith("steps=")]
        self.steps = next((int(w[6:]) for w in words if w.startswith("steps=")), 1)
        self.wants_history = "history" in words
        self.wants_server = "server" in words
        self.wants_model = any("infill" in w for w in self.settings)


def f32_model(a, tmp):
    """The model with its weights as f32: both sides then compute nearly the same logits."""
    out = os.path.join(tmp, "model-f32.gguf")
    if not os.path.exists(out):
        for name in ("to_f32.py", "ggml_c.py", "gguf_edit.py"):
            shutil.copy(os.path.join(HERE, name), tmp)
        call([peer(), "python3", os.path.join(tmp, "to_f32.py"), shutil.copy(a.model, os.path.join(tmp, "model.gguf")), out])
    return out


def read_chains():
    with open(CHAINS) as f:
        return [Chain(line.rstrip("\n")) for line in f if line.strip() and not line.startswith("#")]


def random_row(r, n, kind):
    if kind == 0:       # flat
        return [r.gauss(0, 1) for _ in range(n)]
    if kind == 1:       # like a model's
        return [r.gauss(-2, 2.5) + (r.expovariate(0.25) if r.random() < 0.02 else 0) for _ in range(n)]
    if kind == 2:       # peaked
        row = [r.gauss(0, 1) for _ in range(n)]
        row[r.randrange(n)] = 18.0
        return row
    if kind == 3:       # two or three likely ones
        row = [r.gauss(-8, 1) for _ in range(n)]
        for _ in range(3):
            row[r.randrange(n)] = r.uniform(2, 4)
        return row
    if kind == 4:       # large numbers; not so far apart that the peer's probabilities are 0 and its entropies NaN
        return [r.gauss(0, 1) * 8 + 200 for _ in range(n)]
    return [r.uniform(-6, 6) for _ in range(n)]


def random_history(r, n_vocab):
    """Few tokens, repeated sequences: what the penalties look for."""
    few = [r.randrange(n_vocab) for _ in range(r.choice([3, 8, 40]))]
    out = []
    while len(out) < r.choice([10, 60, 200]):
        if len(out) > 12 and r.random() < 0.4:
            at = r.randrange(len(out) - 8)
            out += out[at:at + r.randrange(2, 9)]
        else:
            out.append(r.choice(few))
    return out


def run_lines(command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, **options)
    if done.returncode:
        raise RuntimeError(f"{command[:3]}: status {done.returncode}: {done.stderr.decode('utf-8', 'replace')[:1500]}")
    return done.stdout.decode().splitlines()


def split_cases(lines):
    """[[(chosen, [(id, p), ...]), ...] per case], None for a case marked "?"."""
    cases, picks = [], []
    for line in lines:
        if line == ".":
            cases.append(picks)
            picks = []
        elif line == "?":
            picks = None
        else:
            chosen, *pairs = line.split()
            picks.append((int(chosen), [(int(a), float(b)) for a, b in (x.split(":") for x in pairs)]))
    return cases


def difference(ours, theirs):
    """Largest difference of a probability, and the ids only one side has."""
    a, b = dict(ours), dict(theirs)
    worst = max((abs(a[i] - b[i]) for i in a.keys() & b.keys()), default=0)
    return worst, sorted(a.keys() ^ b.keys())


class Tally:
    def __init__(self):
        self.n = self.bad = self.close = self.skipped = 0
        self.worst = 0.0

    def add(self, name, ours, theirs, explain=None):
        self.n += 1
        a, b = dict(ours), dict(theirs)
        worst, odd = difference(ours, theirs)
        # One side only, but with no more than the tolerance in all: sums of 1e-8 at the end of a long list.
        missing = sum(a.get(i, b.get(i)) for i in odd)
        if worst <= TOLERANCE and missing <= TOLERANCE:
            self.worst = max(self.worst, worst, missing)
            return True
        if (len(odd) == 1 and is_close(a, b, odd[0])) or (explain and explain(a, b)):
            self.close += 1
            return True
        self.bad += 1
        if self.bad <= 8:
            print(f"  {name}: {len(ours)} and {len(theirs)} survivors, odd {odd[:6]}, worst {worst:.2e}\n"
                  f"    ours   {ours[:6]}\n    theirs {theirs[:6]}")
        return False

    def text(self):
        more = f", {self.close} close" if self.close else ""
        more += f", {self.skipped} not reached" if self.skipped else ""
        return f"{self.n:5} cases, worst {self.worst:.1e}{more}" + (f", {self.bad} FAILED" if self.bad else "")


def is_close(a, b, odd):
    """Is the odd one the last of the longer list, and are the two lists else the same up to a common factor?"""
    longer, shorter = (a, b) if odd in a else (b, a)
    if not shorter or min(longer, key=lambda i: longer[i]) != odd:
        return False
    rest = 1 - longer[odd]
    return all(abs(longer[i] / rest - shorter[i]) <= TOLERANCE for i in shorter) and longer[odd] < 1e-2


def f32(x):
    return array.array("f", [float(x)])[0]


def length_reaching(sums, limit):
    """How many summands it takes until the sum reaches the limit; 0 when it does not."""
    return next((n for n, x in enumerate(sums, 1) if x >= limit), 0)


def sums_of_heads(row, is_typical):
    """Of a list cut by top_p or typ_p the ids in the order in which they are kept, with the sums of their probabilities so far:
    exact ones, and with every addition in f32 (the whole in the order of ids for top_p, falling for typ_p)."""
    ids, top = range(len(row)), max(row)
    e = [math.exp(x - top) for x in row]
    whole, whole_f32 = math.fsum(e), 0.0
    falling = sorted(ids, key=lambda i: -row[i])
    for i in falling if is_typical else ids:
        whole_f32 = f32(whole_f32 + f32(e[i]))
    order = falling
    if is_typical:
        entropy = math.log(whole) - math.fsum(e[i] * (row[i] - top) for i in ids) / whole
        order = sorted(ids, key=lambda i: abs(top - row[i] + math.log(whole) - entropy))
    exact = itertools.accumulate(e[i] / whole for i in order)
    in_f32 = itertools.accumulate((f32(f32(e[i]) / whole_f32) for i in order), lambda a, b: f32(a + b))
    return order, exact, in_f32


def explain_cut(chain, row):
    """Tells whether two different lists are ours by exact sums and the peer's by f32 sums.  None for other chains."""
    kind = next((k for k in ("top_p", "typ_p") if f"samplers={k}" in chain.settings), None)
    if not kind or len(chain.settings) != 2:
        return None
    limit = f32(chain.settings[1].split("=")[1])

    def explain(ours, theirs):
        order, *sums = sums_of_heads(row, kind == "typ_p")
        return all(kept.keys() == set(order[:length_reaching(s, limit)]) for kept, s in zip((ours, theirs), sums))
    return explain


# ---- 1. the library -----------------------------------------------------------------------------------------------------

def library(a, tmp, chains, sizes, tally):
    logits_path, cases_path, choices_path = (os.path.join(tmp, x) for x in ("logits.bin", "cases.txt", "choices.txt"))
    for script in ("peer_samplers.py", "peer_tokens.py"):
        shutil.copy(os.path.join(HERE, script), tmp)
    model = os.path.join(tmp, "model.gguf")
    shutil.copy(a.model, model)
    for n_vocab, needs_model in sizes:
        r = random.Random(f"{seed()} {n_vocab}")
        rows = max(a.n, 1) * ROW_KINDS
        data = array.array("f")
        for i in range(rows):
            data.extend(random_row(r, n_vocab, i % ROW_KINDS))
        with open(logits_path, "wb") as f:
            data.tofile(f)
        todo = [c for c in chains if needs_model or not (c.wants_model or "dry" in c.name)]
        lines, owner = [], []
        for c in todo:
            for i in range(rows):
                picks = ",".join(str((i + k * ROW_KINDS) % rows) for k in range(c.steps))
                before = ",".join(map(str, random_history(r, n_vocab))) if c.wants_history else "-"
                settings = [s for s in c.settings if needs_model or not s.startswith("dry_multiplier")]
                lines.append("\t".join([picks, before, *settings]))
                owner.append(c)
        with open(cases_path, "w") as f:
            f.write("\n".join(lines) + "\n")
        which = model if needs_model else "-"
        ours = split_cases(run_lines([a.driver, "cases", which, logits_path, str(n_vocab), cases_path]))
        with open(choices_path, "w") as f:
            f.write("\n".join(" ".join(str(p[0]) for p in picks) for picks in ours) + "\n")
        theirs = split_cases(run_lines([peer(), "python3", os.path.join(tmp, "peer_samplers.py"), which, logits_path,
                                        str(n_vocab), cases_path, choices_path]))
        for c, line, mine, other in zip(owner, lines, ours, theirs):
            t = tally.setdefault(c.name, Tally())
            if other is None:
                t.skipped += 1
                continue
            for step, (x, y) in enumerate(zip(mine, other)):
                at = int(line.split("\t", 1)[0].split(",")[step]) * n_vocab
                t.add(f"{c.name}, vocabulary {n_vocab}, step {step}, {line[:60]!r}", x[1], y[1],
                      explain_cut(c, data[at:at + n_vocab]))
        if len(ours) != len(lines) or len(theirs) != len(lines):
            raise RuntimeError(f"{len(ours)} and {len(theirs)} answers to {len(lines)} cases")


# ---- 2. the server ------------------------------------------------------------------------------------------------------

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, model, log):
        self.port = free_port()
        with open(log, "w") as f:
            self.process = subprocess.Popen(
                [peer(), "llama-server", "-m", model, "--port", str(self.port), "-c", "1024", "-np", "1", "-t", "1",
                 "--no-webui", "-fa", "off", "-ctk", "f32", "-ctv", "f32", "--no-warmup"],
                stdout=f, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
        for _ in range(120):
            try:
                self.ask("/health", None)
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.5)
        with open(log) as f:
            raise RuntimeError("the peer's server does not answer: " + f.read()[-600:])

    def ask(self, path, body):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data,
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as e:
            if body is None:    # still loading
                raise OSError(str(e)) from None
            raise RuntimeError(f"{path}: {e}: {e.read()[:300]!r}") from None

    def close(self):
        self.process.terminate()
        self.process.wait(30)


RENAMED = {"temp": "temperature"}
WHOLE = ("top_k", "repeat_last_n", "dry_allowed_length", "dry_penalty_last_n", "min_keep")


def server_body(chain, tokens, n_probs):
    body = {"prompt": tokens, "n_predict": 1, "n_probs": n_probs, "post_sampling_probs": True, "cache_prompt": False,
            "seed": 1, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "xtc_probability": 0.0,
            "repeat_penalty": 1.0, "dry_multiplier": 0.0, "dry_penalty_last_n": 64, "repeat_last_n": 64,
            "samplers": ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"]}
    for s in chain.settings:
        name, value = s.split("=", 1)
        if name == "logit_bias":
            token, bias = value.split(":")
            body.setdefault("logit_bias", []).append([int(token), False if bias == "false" else float(bias)])
        elif name == "samplers":
            body[name] = [] if value == "none" else value.split(";")
        elif name == "dry_sequence_breaker":
            body.setdefault("dry_sequence_breakers", []).append(value)
        else:
            number = int(value) if name in WHOLE else float(value)
            if number == -1 and name.endswith("last_n"):
                number = 1024       # the context; the server takes no -1
            body[RENAMED.get(name, name)] = number
    if body["samplers"] == []:      # an empty list means the default to it; a top_k of 0 does nothing
        body["samplers"] = ["top_k"]
    return body


def server(a, tmp, chains, tally):
    model = f32_model(a, tmp)
    r = random.Random(f"{seed()} server")
    logits_path, cases_path = os.path.join(tmp, "server.bin"), os.path.join(tmp, "server.txt")
    s = Server(model, os.path.join(tmp, "server.log"))
    try:
        n_vocab = s.ask("/v1/models", None)["data"][0]["meta"]["n_vocab"]
        for c in (c for c in chains if c.wants_server):
            for _ in range(max(1, a.n)):
                tokens = random_history(r, n_vocab)[:100]
                peer_rows = peer_logits(model, tokens, logits_path)
                with open(logits_path, "wb") as f:
                    peer_rows[-n_vocab:].tofile(f)
                with open(cases_path, "w") as f:
                    f.write("\t".join(["0", ",".join(map(str, tokens)), *c.settings]) + "\n")
                ours = split_cases(run_lines([a.driver, "cases", model, logits_path, str(n_vocab), cases_path]))[0][0][1]
                reply = s.ask("/completion", server_body(c, tokens, n_vocab))
                top = reply["completion_probabilities"][0]["top_probs"]
                theirs = [(x["id"], x["prob"]) for x in top if x["prob"] > 0]
                tally.setdefault(c.name, Tally()).add(f"{c.name}, {tokens[:8]}...", ours, theirs)
    finally:
        s.close()


# ---- 3. greedy text -----------------------------------------------------------------------------------------------------

N_GREEDY = 256
LAST_TOKEN_BYTES = 16
PROMPTS = ["The model", "What is 12 + 7? ", "<|im_start|>user\nWhat is 12 + 7?<|im_end|>\n<|im_start|>assistant\n"]


def greedy_models(a, tmp):
    yield f32_model(a, tmp)
    source = os.path.join(os.path.dirname(os.path.realpath(peer())), "make_model.py")
    if not os.path.exists(source):
        print("no make_model.py beside the peer's runner: greedy text of the model only")
        return
    script = shutil.copy(source, tmp)
    for preset, layers in (("smollm2-135m", 2), ("qwen3-0.6b", 2), ("gemma3-1b", 2)):
        out = os.path.join(tmp, f"{preset}.gguf")
        call([peer(), "python3", script, preset, out, "--layers", str(layers), "--type", "f32", "--seed", str(seed()),
              "--tokenizer", os.path.join(tmp, "model.gguf")])
        yield out
        os.unlink(out)


def peer_text(model, prompt, n):
    """The peer prints bytes that are no text as they are, drops NUL bytes, and says where the model ended."""
    done = subprocess.run([peer(), "llama-completion", "-m", model, "-p", prompt, "-n", str(n), "--temp", "0", "-c", "1024",
                           "-no-cnv", "--no-display-prompt", "-fa", "off", "-ctk", "f32", "-ctv", "f32", "-t", "1",
                           "--no-warmup"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"llama-completion: status {done.returncode}")
    return done.stdout.decode("utf-8", "replace").encode()


def our_text(perigee, model, prompt, n):
    """Text, and whether the model ended it."""
    done = subprocess.run([perigee, "run", model, "--raw", "--greedy", "-n", str(n), "--ctx", "1024", "--kv", "f32",
                           "--parse-special", "-v", prompt], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, env={**os.environ, "PERIGEE_CPU_ISA": "reference"})
    if done.returncode:
        raise RuntimeError(f"perigee run: status {done.returncode}: {done.stderr[-300:]!r}")
    return done.stdout.replace(b"\0", b""), b"length reached" not in done.stderr


def is_same_text(ours, is_whole, theirs):
    """Where the model ended, the peer, writing to a pipe, may exit before its printing thread wrote the last token."""
    if is_whole:
        ours, theirs = ours.rstrip(b"\n"), theirs.rstrip(b"\n").removesuffix(b" [end of text]").rstrip(b"\n")
        return ours.startswith(theirs) and len(ours) - len(theirs) <= LAST_TOKEN_BYTES
    return theirs.startswith(ours.removesuffix("\ufffd".encode()))     # a character cut off at the end


def greedy(a, tmp):
    bad = n = n_text = 0
    for model in greedy_models(a, tmp):
        for prompt in PROMPTS:
            n += 1
            ours, is_whole = our_text(a.perigee, model, prompt, N_GREEDY)
            n_text += len(ours) > 0
            theirs = peer_text(model, prompt, N_GREEDY + 8)
            same = is_same_text(ours, is_whole, theirs)
            bad += not same
            if not same:
                at = next((i for i, (p, q) in enumerate(zip(ours, theirs)) if p != q), min(len(ours), len(theirs)))
                print(f"  {os.path.basename(model)}: {prompt!r}: {len(ours)} and {len(theirs)} bytes, apart from byte {at}: "
                      f"{ours[max(0, at - 20):at + 20]!r} and {theirs[max(0, at - 20):at + 20]!r}")
    print(f"greedy text of {N_GREEDY} tokens: {n} runs, {n_text} with text, {n - bad} equal")
    return bad + (n_text == 0)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--driver", required=True)
    p.add_argument("--perigee", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--part", choices=["library", "server", "greedy"])
    p.add_argument("-n", type=int, default=2)
    a = p.parse_args()
    peer()
    chains, bad = read_chains(), 0
    with tempfile.TemporaryDirectory() as tmp:
        if a.part in (None, "library"):
            tally = {}
            n_model = len(run_lines([peer(), "python3", shutil.copy(os.path.join(HERE, "peer_tokens.py"), tmp), "pieces",
                                     shutil.copy(a.model, os.path.join(tmp, "model.gguf"))]))
            library(a, tmp, chains, [(48, False), (6000, False), (n_model, True)], tally)
            for name, t in tally.items():
                print(f"library {name:28} {t.text()}")
            bad += sum(t.bad for t in tally.values()) + (not tally)
        if a.part in (None, "server"):
            tally = {}
            server(a, tmp, chains, tally)
            for name, t in tally.items():
                print(f"server  {name:28} {t.text()}")
            bad += sum(t.bad for t in tally.values()) + (not tally)
        if a.part in (None, "greedy"):
            bad += greedy(a, tmp)
    print(f"{bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
