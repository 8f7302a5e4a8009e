#!/usr/bin/env python3
"""The byte-level BPE vocabulary of the demo model: training, encoding, decoding.

  python3 tokenizer.py --out build/tokenizer.json

Text is cut as the pre-tokenizer "qwen2" of GGUF files does it: digits alone, words with at most one character
before them. Merges come in an order that makes copying easy for a small model: first inside runs of letters, so
that a word is cut alike wherever it stands; then the commonest words take in the space before them; then runs of
marks, only those of JSON's syntax, so that a path is cut alike after a space and after a quote.
"""
import argparse
import collections
import json
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
CONTROL = ["<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"]
VISIBLE = ["<tool_call>", "</tool_call>"]
SPECIAL = CONTROL + VISIBLE
L = r"[^\W\d_]"
PIECES = re.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|(?:(?!\d)[\W_](?<![\r\n]))?" + L + r"+|\d| ?(?:(?!\s)[\W_])+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPLIT = re.compile("(" + "|".join(re.escape(s) for s in SPECIAL) + ")")


def byte_letters():
    """The printable characters that stand for the 256 bytes in a byte-level vocabulary."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, extra = {}, 0
    for b in range(256):
        if b in kept:
            letters[b] = chr(b)
        else:
            letters[b] = chr(256 + extra)
            extra += 1
    return letters


LETTERS = byte_letters()
BYTES = {c: b for b, c in LETTERS.items()}


def pieces(text):
    """The pre-tokens of a text without special tokens, in letters that stand for bytes."""
    return ["".join(LETTERS[b] for b in m.group(0).encode()) for m in PIECES.finditer(text)]


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(m) for m in merges]
        self.ranks = {m: i for i, m in enumerate(self.merges)}
        self.tokens = [LETTERS[b] for b in range(256)] + [a + b for a, b in self.merges] + SPECIAL
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        self.end = self.ids["<|end|>"]
        self.cache = {}

    @staticmethod
    def load(path):
        with open(path) as f:
            return Tokenizer(json.load(f)["merges"])

    def save(self, path):
        with open(path, "w") as f:
            json.dump({"merges": self.merges}, f)

    def piece(self, text):
        """The token ids of one pre-token."""
        found = self.cache.get(text)
        if found is None:
            parts = list(text)
            while len(parts) > 1:
                rank, i = min((self.ranks.get(p, 1 << 30), i) for i, p in enumerate(zip(parts, parts[1:])))
                if rank == 1 << 30:
                    break
                parts[i:i + 2] = [parts[i] + parts[i + 1]]
            found = self.cache[text] = [self.ids[p] for p in parts]
        return found

    def encode(self, text):
        out = []
        for part in SPLIT.split(text):
            if part in SPECIAL:
                out.append(self.ids[part])
            else:
                for p in pieces(part):
                    out.extend(self.piece(p))
        return out

    def decode(self, ids):
        data = b""
        for i in ids:
            t = self.tokens[i]
            data += t.encode() if t in SPECIAL else bytes(BYTES[c] for c in t)
        return data.decode("utf-8", "replace")


def learn(words, count, allowed=lambda parts, i: True):
    """The next `count` merges of the words {tuple of parts: frequency}; changes words."""
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for parts, n in words.items():
            for i, p in enumerate(zip(parts, parts[1:])):
                if allowed(parts, i):
                    pairs[p] += n
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        changed = collections.Counter()
        for parts, n in words.items():
            if best[0] in parts:
                out, i = [], 0
                while i < len(parts):
                    if parts[i:i + 2] == best:
                        out.append(parts[i] + parts[i + 1])
                        i += 2
                    else:
                        out.append(parts[i])
                        i += 1
                parts = tuple(out)
            changed[parts] += n
        words.clear()
        words.update(changed)
    return merges


def train(texts, size, starts=150):
    """A Tokenizer of `size` tokens for these texts, `starts` of them words with the space before."""
    counts = collections.Counter()
    for t in texts:
        for part in SPLIT.split(t):
            if part not in SPECIAL:
                counts.update(pieces(part))
    inside, marks = collections.Counter(), collections.Counter()
    for p, n in counts.items():
        letters = re.search(r"[A-Za-z]+$", p)
        if letters:
            inside[tuple(letters.group(0))] += n
        elif not p.isdigit():
            marks[tuple(p)] += n
    syntax = set('"{}[]:,') | {LETTERS[32]}
    marks = learn(marks, 24, lambda parts, i: set(parts[i] + parts[i + 1]) <= syntax)
    merges = learn(inside, size - 256 - len(SPECIAL) - len(marks) - starts)
    whole = Tokenizer(merges)
    words = [(-n, p) for p, n in counts.items() if p[0] == LETTERS[32] and p[1:].isalpha() and len(whole.piece(p)) == 2]
    merges += [(p[0], p[1:]) for _, p in sorted(words)[:starts]]
    return Tokenizer(merges + marks)


def main():
    from generate import Generator
    from template import Template
    p = argparse.ArgumentParser(description="train the vocabulary of the demo model")
    p.add_argument("--out", default=os.path.join(HERE, "build", "tokenizer.json"))
    p.add_argument("--size", type=int, default=1024)
    p.add_argument("--count", type=int, default=3000, help="conversations to learn from")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    template = Template()
    texts = [template.render(c["messages"], c["tools"]) for c in Generator("train", a.seed).conversations(a.count)]
    t = train(texts, a.size)
    os.makedirs(os.path.dirname(os.path.abspath(a.out)), exist_ok=True)
    t.save(a.out)
    n = sum(len(t.encode(x)) for x in texts)
    print(f"{len(t.tokens)} tokens; {n / len(texts):.1f} tokens and {sum(map(len, texts)) / n:.2f} characters a token per conversation")


if __name__ == "__main__":
    main()
