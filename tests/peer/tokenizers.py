#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare the tokenizer with the peer runtime: ids, texts, and every pre-tokenizer name.

usage: tokenizers.py DRIVER [-n STRINGS] [--seed N] [--only PART] [--pre NAME,...]

DRIVER is the built tok_driver.  PERIGEE_PEER names the peer's runner, PERIGEE_TEST_DATA the folder
with tokenizers/*.gguf; without either the script exits 77.  Parts: cases, vectors, marks,
random, decode, own, pre.  Prints one line per comparison and exits 1 when any differs.
"""
import argparse
import math
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import unicodedata

from gguf_edit import Gguf

HERE = os.path.dirname(os.path.abspath(__file__))
CATEGORIES = {}


def assigned():
    """Code points of Unicode 14 or earlier by first letter of their category."""
    if not CATEGORIES:
        for c in range(0x110000):
            kind = unicodedata.category(chr(c))
            if kind not in ("Cn", "Cs") and c:
                CATEGORIES.setdefault(kind[0], []).append(c)
    return CATEGORIES


WORDS = ("the of hello World don't I'll WE'VE it's He'd y'all're x'S ain'T foo_bar camelCaseWord "
         "HTTPServer naïve café Straße ΑΒΓ привет Мир שלום مرحبا नमस्ते ไทย 中文字 日本語 ひらがな "
         "カタカナ 한국어 ｆｕｌｌ "
         "IMGIMGABCZ <sentinel:12> http://a.b/c?d=e 3.14 1,234,567 0x1F e\u0301 a\u0308\u0323 "
         "\U0001F600 \U0001F468\u200D\U0001F469\u200D\U0001F467 \u200c \u200d \u00ad \u2581 \u180e ǅ "
         "½ Ⅷ ٣٤٥ １２３ ²³ _ __ -- ... !? (\" \") [x] {y} #1 @me $5 +-=<>^~|` \\ ／ 。， "
         "“q” ‘q’").split()
SPACES = [" ", " ", " ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n", "\u00a0", "\u3000",
          "\u2028", "\x0b", "\x0c", "\x85", "\x1c", "\u2003", "\u1680", "    "]
NOISE = [b"\x80", b"\xbf", b"\xc3", b"\xe2\x82", b"\xf0\x9f", b"\xff", b"\xc0\x80", b"\xc1\x81",
         b"\xed\xa0\x80", b"\xe0\x80\x80", b"\xfe", b"\xf0\x80\x80\x80", b"\xf8", b"\xe1\xa0"]


def piece(rng, extra):
    k = rng.random()
    cats = assigned()
    if k < 0.22:
        return rng.choice(WORDS).encode()
    if k < 0.47:
        return rng.choice(SPACES).encode()
    if k < 0.55:
        return "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 12))).encode()
    if k < 0.65:
        return "".join(chr(rng.randint(32, 126)) for _ in range(rng.randint(1, 8))).encode()
    if k < 0.80:
        pool = cats[rng.choice("LMNPSZCLNP")]
        return "".join(chr(rng.choice(pool)) for _ in range(rng.randint(1, 5))).encode()
    if k < 0.86:
        base = rng.choice([0x20, 0xC0, 0x370, 0x400, 0x600, 0x900, 0x3040, 0x4E00, 0xAC00, 0x1F300])
        text = "".join(chr(base + rng.randint(0, 127)) for _ in range(rng.randint(1, 6)))
        return "".join(c for c in text if unicodedata.category(c) != "Cn").encode()
    if k < 0.90:
        return rng.choice("aAbBzZsStTdDmM'éÉßſ中١").encode() * rng.randint(1, 5)
    if k < 0.95:
        return rng.choice(NOISE)
    return rng.choice(extra) if extra else b"'"


def strings(n, seed, extra=()):
    rng = random.Random(seed)
    out = [b"", b" ", b"\n", b"  a", b"a  ", b" \n ", b"\t\t x"]
    while len(out) < n:
        text = b"".join(piece(rng, extra) for _ in range(rng.randint(1, 14)))
        out.append(text.replace(b"\0", b""))
    return out[:n]


class Both:
    """Runs our driver and the peer's library on the same file and compares line by line."""

    def __init__(self, driver, peer, folder):
        self.driver, self.peer, self.folder = driver, peer, folder
        self.failed = self.compared = 0

    def ours(self, *args):
        return subprocess.run([self.driver, *args], capture_output=True, check=False)

    def theirs(self, *args):
        return subprocess.run([self.peer, "python3", os.path.join(HERE, "peer_tokens.py"), *args],
                              capture_output=True, check=False, cwd=HERE)

    def verdict(self, name, want, got, show):
        """want, got: results of subprocess.run; show(i): the input of line i."""
        a, b = want.stdout.decode().splitlines(), got.stdout.decode().splitlines()
        if want.returncode or got.returncode or len(a) != len(b):
            print("FAIL %s: peer exits %d with %d lines, we exit %d with %d: %s %s" % (
                name, want.returncode, len(a), got.returncode, len(b),
                want.stderr.decode()[-200:], got.stderr.decode()[-200:]))
            self.failed += 1
            return
        bad = [i for i in range(len(a)) if a[i] != b[i]]
        self.compared += len(a)
        print("%s %s: %d of %d equal" % ("FAIL" if bad else "ok  ", name, len(a) - len(bad),
                                         len(a)), flush=True)
        for i in bad[:3]:
            print("     %r\n     peer %s\n     ours %s" % (show(i), a[i][:300], b[i][:300]))
        self.failed += bool(bad)

    def encode(self, name, model, texts, *options):
        path = os.path.join(self.folder, "inputs")
        with open(path, "wb") as f:
            f.write(b"\0".join(texts))
        self.verdict(name, self.theirs("encode", model, path, *options),
                     self.ours("encode", model, path, *options), lambda i: texts[i])

    def decode(self, name, model, lists, *options):
        path = os.path.join(self.folder, "ids")
        with open(path, "w") as f:
            f.writelines(" ".join(map(str, ids)) + "\n" for ids in lists)
        self.verdict(name, self.theirs("decode", model, path, *options),
                     self.ours("decode", model, path, *options), lambda i: lists[i])


def specials(model):
    g = Gguf(model)
    tokens = g.strings("tokenizer.ggml.tokens")
    raw = g.kv.get("tokenizer.ggml.token_type")
    types = struct.unpack("<%di" % len(tokens), raw[1][12:12 + 4 * len(tokens)]) if raw else []
    return [t for t, k in zip(tokens, types) if k in (2, 3, 4)][:40], len(tokens)


def run_vectors(both, models):
    for model in models:
        with open(model + ".inp", encoding="utf-8") as f:
            texts = f.read().split("\n__ggml_vocab_test__\n")
        with open(model + ".out", encoding="utf-8") as f:
            want = [" ".join(line.split()) for line in f.read().splitlines()]
        path = os.path.join(both.folder, "vectors")
        with open(path, "wb") as f:
            f.write("\0".join(texts).encode())
        got = both.ours("encode", model, path).stdout.decode().splitlines()
        equal = sum(a == b for a, b in zip(want, got))
        ok = equal == len(want) and len(got) >= len(want)
        print("%s vectors %s: %d of %d exact" % ("ok  " if ok else "FAIL",
                                                 os.path.basename(model), equal, len(want)))
        both.compared += len(want)
        both.failed += not ok


def run_random(both, models, n, seed):
    for model in models:
        extra, _ = specials(model)
        texts = strings(n, seed, extra)
        name = os.path.basename(model)
        both.encode("random %s" % name, model, texts)
        both.encode("random %s, BOS and specials" % name, model, texts, "special", "parse")
        both.encode("random %s, specials only" % name, model, texts[:n // 4], "parse")


def run_decode(both, models, n, seed):
    for model in models:
        name = os.path.basename(model)
        _, n_vocab = specials(model)
        rng = random.Random(seed)
        lists = [[rng.randrange(n_vocab) for _ in range(rng.randint(0, 12))] for _ in range(n)]
        path = os.path.join(both.folder, "inputs")
        with open(path, "wb") as f:
            f.write(b"\0".join(strings(n, seed + 1)))
        for line in both.ours("encode", model, path, "special").stdout.decode().splitlines():
            lists.append([int(x) for x in line.split()])
        both.decode("detokenize %s" % name, model, lists)
        both.decode("detokenize %s, specials shown" % name, model, lists, "unparse")
        for option in ([], ["unparse"]):
            both.verdict("pieces %s %s" % (name, "".join(option)),
                         both.theirs("pieces", model, *option), both.ours("pieces", model, *option),
                         lambda i: i)
        run_stream(both, model, name, lists)


def run_stream(both, model, name, lists):
    """Streamed text is the joined pieces (less one leading space), made whole UTF-8."""
    pieces = [bytes.fromhex(x) for x in
              both.theirs("pieces", model).stdout.decode().splitlines()]
    strip = "add_space_prefix=1" in both.theirs("info", model).stdout.decode()
    path = os.path.join(both.folder, "ids")
    with open(path, "w") as f:
        f.writelines(" ".join(map(str, ids)) + "\n" for ids in lists)
    got = [bytes.fromhex(x) for x in
           both.ours("decode", model, path, "stream").stdout.decode().splitlines()]
    bad = 0
    for ids, text in zip(lists, got):
        first = pieces[ids[0]] if ids else b""
        if strip and first[:1] == b" ":
            first = first[1:]
        want = first + b"".join(pieces[i] for i in ids[1:])
        bad += text.decode("utf-8") != want.decode("utf-8", "replace")
    bad += len(lists) != len(got)
    print("%s stream %s: %d of %d equal and whole" % ("FAIL" if bad else "ok  ", name,
                                                     len(lists) - bad, len(lists)))
    both.compared += len(lists)
    both.failed += bool(bad)


def pre_names():
    path = os.path.join(HERE, "..", "..", "core", "model", "pretok.def")
    with open(path, encoding="utf-8") as f:
        return re.findall(r'TOK_PRE\("([^"]+)"', f.read())


def run_pre(both, base, n, seed, only):
    for k, name in enumerate(only or pre_names()):
        g = Gguf(base)
        g.set_str("tokenizer.ggml.pre", name)
        if name == "whitespace":  # the peer aborts when text with spaces reaches its merges
            g.set_str("tokenizer.ggml.model", "whitespace")
        model = os.path.join(both.folder, "pre.gguf")
        g.write(model)
        both.encode("pre %s" % name, model, strings(n, seed + 100 + k))
        os.remove(model)


def charsmap(rules):
    """A precompiled character map (see tok_unigram.c) of {source bytes: replacement bytes}."""
    texts, offset = b"", {}
    for new in sorted(set(rules.values())):
        offset[new] = len(texts)
        texts += new + b"\0"
    root = {}
    for old, new in rules.items():
        node = root
        for c in old:
            node = node.setdefault(c, {})
        node[None] = offset[new]
    unit, used = [0] * 65536, {0}

    def place(node, at):
        labels = [0 if c is None else c for c in node]
        base = next(b for b in range(1, 60000)
                    if b not in bases and all((b ^ c) not in used for c in labels))
        bases.add(base)
        shift = at ^ base
        assert shift < 1 << 21
        unit[at] |= shift << 10
        for c in labels:
            used.add(base ^ c)
        for c, child in node.items():
            spot = base ^ (0 if c is None else c)
            if c is None:
                unit[at] |= 1 << 8
                unit[spot] = child | 1 << 31
            else:
                unit[spot] = c
        for c, child in node.items():
            if c is not None:
                place(child, base ^ c)

    bases = set()
    place(root, 0)
    size = max(used) + 256
    blob = struct.pack("<%dI" % size, *unit[:size])
    return struct.pack("<I", len(blob)) + blob + texts


def unigram_model(path, seed, with_map, **switches):
    rng = random.Random(seed)
    tokens, types = [b"<pad>", b"</s>", b"<unk>"], [3, 3, 2]
    mark = "\u2581"
    seen = set(tokens)

    def add(text, kind):
        data = text.encode()
        if data and data not in seen:
            seen.add(data)
            tokens.append(data)
            types.append(kind)

    for c in range(33, 127):
        if c % 7:
            add(chr(c), 1)
    add(mark, 1)
    letters = "etaoinshrdlucmfwypvbgkqjxz中文字éßпр١２\u0301😀'."
    while len(tokens) < 3000:
        body = "".join(rng.choice(letters) for _ in range(rng.randint(1, 5)))
        add((mark if rng.random() < 0.4 else "") + body, 1)
    for text in ("<extra_id_0>", "<extra_id_1>", "  ", "user defined", mark + mark, "ab c"):
        add(text, 4)
    for text in ("unused1", "th e"):
        add(text, 5)
    for b in range(0, 256, 3):
        add("<0x%02X>" % b, 6)
    scores = [0.0] * 3 + [-math.floor(rng.random() * 1200) / 97.0 for _ in tokens[3:]]
    g = Gguf()
    g.set_str("general.architecture", "t5")
    g.set_str("tokenizer.ggml.model", "t5")
    g.set_str("tokenizer.ggml.pre", "default")
    g.set_strs("tokenizer.ggml.tokens", tokens)
    g.set_f32s("tokenizer.ggml.scores", scores)
    g.set_i32s("tokenizer.ggml.token_type", types)
    for key, value in switches.items():
        g.set_bool("tokenizer.ggml." + key, value)
    if with_map:
        rules = {"\uff41": "a", "\uff42": "b", "\u3000": " ", "\t": " ", "\n": " ",
                 "\u00bd": "1/2", "e\u0301": "é", "\u00ad": "", "ﬁ": "fi", "Å": "a", "\u200d": "",
                 "ab": "X", "abcd": "Y"}
        g.set_u8s("tokenizer.ggml.precompiled_charsmap",
                  charsmap({k.encode(): v.encode() for k, v in rules.items()}))
    g.write(path)


def raw_bpe_model(path, pre, seed):
    """A small byte-level file whose merges work on raw text, with byte tokens."""
    rng = random.Random(seed)
    mark = "\u2581"
    tokens = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)]
    types = [2, 3, 3] + [6] * 256
    alphabet = list(mark + "abcdest12.,'\n ") + ["é", "中", "字", "\u0301", "T", "S"]
    pool, merges = list(alphabet), []
    while len(merges) < 600:
        a, b = rng.choice(pool), rng.choice(pool)
        if " " in a + b or len(a + b) > 6 or (a, b) in merges:
            continue
        merges.append((a, b))
        if a + b not in pool:
            pool.append(a + b)
    tokens += [t for t in pool if rng.random() < 0.9]
    tokens = list(dict.fromkeys(tokens))
    types += [1] * (len(tokens) - len(types))
    g = Gguf()
    g.set_str("general.architecture", "llama")
    g.set_str("tokenizer.ggml.model", pre if pre in ("gemma4", "whitespace") else "gpt2")
    g.set_str("tokenizer.ggml.pre", pre)
    g.set_strs("tokenizer.ggml.tokens", [t.encode() for t in tokens])
    g.set_strs("tokenizer.ggml.merges", [(a + " " + b).encode() for a, b in merges])
    g.set_i32s("tokenizer.ggml.token_type", types)
    g.set_u32("tokenizer.ggml.bos_token_id", 1)
    g.set_u32("tokenizer.ggml.eos_token_id", 2)
    g.write(path)


def run_own(both, n, seed):
    model = os.path.join(both.folder, "own.gguf")
    extra = [b"<extra_id_0>", b"user defined", b"user de", b"ab c", b"abcd", b"\xef\xbd\x81",
             "\u2581\u2581".encode(), b"</s>", b"<unk>", b"theses", b"  "]
    for with_map in (False, True):
        for switches in ({}, {"add_space_prefix": True, "remove_extra_whitespaces": True},
                         {"add_space_prefix": True}, {"remove_extra_whitespaces": True}):
            name = "unigram%s %s" % (" with map" if with_map else "", " ".join(switches))
            unigram_model(model, seed, with_map, **switches)
            texts = strings(n, seed + len(name), extra)
            both.encode(name, model, texts)
            both.encode(name + ", BOS and specials", model, texts[:n // 2], "special", "parse")
            both.decode(name + ", detokenize", model, [[i] for i in range(0, 3000, 3)])
    for pre in ("gemma4", "sarvam-moe", "mmbert", "granite-embed-multi-311m", "whitespace"):
        raw_bpe_model(model, pre, seed)
        texts = strings(n, seed + 7, [b"aab", b"ab de", b"\n\n\n", b"a\nb", b"ss t", b"12.", b" a"])
        both.encode("raw merges, %s" % pre, model, texts)
        both.encode("raw merges, %s, BOS and specials" % pre, model, texts[:n // 2], "special",
                    "parse")


def marks():
    """Token texts pretok.def gives a meaning to, by use."""
    path = os.path.join(HERE, "..", "..", "core", "model", "pretok.def")
    with open(path, encoding="utf-8") as f:
        found = re.findall(r'TOK_MARK\((\w+), (".*")\)', f.read())
    uses = {}
    for use, text in found:
        uses.setdefault(use, []).append(unescape(text.replace('" "', "").encode())[1:-1])
    return uses


def run_marks(both, base, rounds, seed):
    """Random sets of well-known token texts of random types: ends of generation, and splitting.

    At most one text of each fill-in-the-middle role: of several, which one the peer takes depends on
    the order of its hash table.
    """
    rng = random.Random(seed)
    model = os.path.join(both.folder, "marks.gguf")
    uses = marks()
    texts = sorted(set(sum(uses.values(), []))) + [b"<mask>", b"[MASK]", b"<unk>", b"<s>", b"<|plamo:eos|>", b"<fim_unused>"]
    tokens = Gguf(base).strings("tokenizer.ggml.tokens")
    for k in range(rounds):
        g = Gguf(base)
        taken = [t for t in texts if rng.random() < 0.5 and t not in tokens]
        for use in uses:
            if use.startswith("FIM"):
                keep = rng.choice(uses[use])
                taken = [t for t in taken if t not in uses[use] or t == keep]
        name = rng.choice(["x", "Phi-3-mini", "a PHI3", "Modern-BERT-base"])
        if "phi" in name.lower():
            taken = list(dict.fromkeys(taken + [b"</s>", b"<unk>", b"<s>"]))  # or the peer refuses
        g.set_strs("tokenizer.ggml.tokens", tokens[:-len(taken) - 1] + taken + tokens[-1:])
        types = [1] * (len(tokens) - len(taken) - 1) + [rng.choice([1, 3, 4]) for _ in taken] + [3]
        g.set_i32s("tokenizer.ggml.token_type", types)
        g.set_str("tokenizer.ggml.pre", rng.choice(["gpt-2", "jina-v2-de", "jina-v2-code"]))
        g.set_str("general.name", name)
        if rng.random() < 0.5:
            g.set_u32("tokenizer.ggml.eot_token_id", rng.randrange(len(tokens)))
        g.write(model)
        pick = [re.search(r" (?:token_)?bos=(-?\d+) (?:token_)?eos=(-?\d+) .*eog=([\d,]*)",
                          r.stdout.decode())
                for r in (both.theirs("info", model), both.ours("info", model))]
        want, got = [m and m.groups() for m in pick]
        ok = want is not None and want == got
        print("%s marks %d: ends of generation %s" % ("ok  " if ok else "FAIL", k, want))
        both.compared += 1
        both.failed += not ok
        if not ok:
            print("     ours", got)
        lines = [b"".join(rng.choice(texts + [b" ", b"  ", b"\n", b"a", b"end of"]) for _ in range(12))
                 for _ in range(60)]
        both.encode("marks %d, specials" % k, model, lines, "parse")
        both.encode("marks %d" % k, model, lines)
        ids = list(range(len(tokens) - len(taken) - 1, len(tokens)))
        both.decode("marks %d, detokenize" % k, model, [[i, 64, i] for i in ids])


def unescape(quoted):
    """The text of a case line's quotes, as test_tokenizer.c reads it."""
    return re.sub(rb'\\(x(..)|.)', lambda m: bytes([int(m[2], 16)]) if m[2] else
                  {b"n": b"\n", b"t": b"\t", b"r": b"\r"}.get(m[1], m[1]), quoted)


def alphabet():
    plain = [b for b in range(256) if 33 <= b < 127 or (b > 160 and b != 173)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b if b in plain else 256 + rest.index(b)).encode() for b in range(256)]


def run_cases(both):
    """The committed cases, put to the peer."""
    folder = os.path.join(HERE, "..", "cases", "tokenizer")
    model = os.path.join(both.folder, "case.gguf")
    for name in sorted(os.listdir(folder)):
        g, tokens, merges, checks = Gguf(), [], [], {}
        g.set_str("general.architecture", "llama")
        with open(os.path.join(folder, name), "rb") as f:
            lines = f.read().split(b"\n")
        for line in lines:
            word, _, rest = line.partition(b" ")
            text = unescape(rest[rest.find(b'"') + 1:rest.rfind(b'"')]) if b'"' in rest else b""
            words = rest.decode(errors="replace").split()
            if word in (b"model", b"pre"):
                g.set_str("tokenizer.ggml." + word.decode(), words[0])
            elif word == b"u32":
                g.set_u32(words[0], int(words[1]))
            elif word == b"bool":
                g.set_bool(words[0], words[1] == "true")
            elif word == b"token":
                kind = ["", "normal", "unknown", "control", "user", "unused", "byte"].index(words[0])
                tokens.append((text, kind, float(words[1])))
            elif word == b"bytes":
                tokens += [(b"<0x%02X>" % b, 6, 0.0) for b in range(256)]
            elif word == b"alphabet":
                tokens += [(t, 1, 0.0) for t in alphabet()]
            elif word == b"merge":
                merges.append(text)
            elif word == b"text":
                after = rest[rest.rfind(b'"'):]
                options = tuple(o for o in ("special", "parse") if o.encode() in after)
                last = text
            elif word == b"ids":
                checks.setdefault(options, []).append((last, rest.decode().strip()))
        g.set_strs("tokenizer.ggml.tokens", [t[0] for t in tokens])
        g.set_i32s("tokenizer.ggml.token_type", [t[1] for t in tokens])
        g.set_f32s("tokenizer.ggml.scores", [t[2] for t in tokens])
        if merges:
            g.set_strs("tokenizer.ggml.merges", merges)
        g.write(model)
        for options, pairs in checks.items():
            title = "case %s %s" % (name, " ".join(options))
            both.encode(title, model, [p[0] for p in pairs], *options)
            both.decode(title + ", back", model, [[int(x) for x in p[1].split()] for p in pairs])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("driver")
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="cases,vectors,marks,random,decode,own,pre")
    parser.add_argument("--pre", default="")
    args = parser.parse_args()
    peer, data = os.environ.get("PERIGEE_PEER"), os.environ.get("PERIGEE_TEST_DATA")
    if not peer or not data:
        print("tokenizers.py: PERIGEE_PEER or PERIGEE_TEST_DATA is not set, nothing compared")
        return 77
    if unicodedata.unidata_version.split(".")[0] != "14":
        print("note: Python's Unicode is", unicodedata.unidata_version, "- the checks want 14")
    folder = os.path.join(data, "tokenizers")
    models = sorted(os.path.join(folder, f) for f in os.listdir(folder) if f.endswith(".gguf"))
    with tempfile.TemporaryDirectory(prefix="perigee-tok-") as scratch:
        both = Both(os.path.abspath(args.driver), peer, scratch)
        parts = args.only.split(",")
        if "cases" in parts:
            run_cases(both)
        if "vectors" in parts:
            run_vectors(both, [m for m in models if os.path.exists(m + ".out")])
        if "marks" in parts:
            run_marks(both, os.path.join(folder, "gpt-2.gguf"), 20, args.seed)
        if "random" in parts:
            run_random(both, models, args.n, args.seed)
        if "decode" in parts:
            run_decode(both, models, args.n // 2, args.seed)
        if "own" in parts:
            run_own(both, args.n, args.seed)
        if "pre" in parts:
            base = os.path.join(folder, "llama-bpe.gguf")
            run_pre(both, base, args.n, args.seed, args.pre.split(",") if args.pre else None)
    print("tokenizers.py: %d comparisons, %d groups differ (seed %d)" % (
        both.compared, both.failed, args.seed))
    return 1 if both.failed else 0


if __name__ == "__main__":
    sys.exit(main())
