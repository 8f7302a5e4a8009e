#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run the peer library's samplers on given logits.

Runs inside the peer's own root (`$PERIGEE_PEER python3 peer_samplers.py MODEL LOGITS N_VOCAB CASES CHOICES`) and loads
libllama through ctypes, so nothing of it is compiled or linked here.  Input and output as tests/support/smp_driver.c; the
chain is put together as the peer's server does.  CHOICES holds the tokens to choose, a line per case: where a chain
remembers what it chose (mirostat, adaptive_p), seeds are tried until it chooses them, as the records depend on it.
"""
import array
import ctypes
import sys


class Data(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float)]


class DataArray(ctypes.Structure):
    _fields_ = [("data", ctypes.POINTER(Data)), ("size", ctypes.c_size_t), ("selected", ctypes.c_int64),
                ("sorted", ctypes.c_bool)]


class Bias(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int32), ("bias", ctypes.c_float)]


class ChainParams(ctypes.Structure):
    _fields_ = [("no_perf", ctypes.c_bool)]


P, I, F, Z = ctypes.c_void_p, ctypes.c_int32, ctypes.c_float, ctypes.c_size_t
SIGNATURES = {
    "chain_init": [ChainParams], "init_dist": [I], "init_top_k": [I], "init_top_p": [F, Z], "init_min_p": [F, Z],
    "init_typical": [F, Z], "init_temp": [F], "init_temp_ext": [F, F, F], "init_xtc": [F, F, Z, I],
    "init_top_n_sigma": [F], "init_mirostat": [I, I, F, F, I], "init_mirostat_v2": [I, F, F],
    "init_penalties": [I, I, F, F, F], "init_dry": [P, F, F, I, I, P, Z], "init_adaptive_p": [F, F, I],
    "init_logit_bias": [I, I, P], "init_infill": [P],
}
LETTERS = {"penalties": "e", "dry": "d", "top_n_sigma": "s", "top_k": "k", "typ_p": "y", "top_p": "p", "min_p": "m", "xtc": "x",
           "temperature": "t", "infill": "i", "adaptive_p": "a"}
OFF = {"temp": 0, "dynatemp_range": 0, "dynatemp_exponent": 1, "top_k": 0, "top_p": 1, "min_p": 0, "typical_p": 1,
       "top_n_sigma": -1, "xtc_probability": 0, "xtc_threshold": 0.1, "repeat_last_n": 64, "repeat_penalty": 1,
       "presence_penalty": 0, "frequency_penalty": 0, "dry_multiplier": 0, "dry_base": 1.75, "dry_allowed_length": 2,
       "dry_penalty_last_n": 64, "mirostat": 0, "mirostat_tau": 5, "mirostat_eta": 0.1, "adaptive_target": -1,
       "adaptive_decay": 0.9, "min_keep": 0}
CONTEXT = 4096      # what -1 means to the two windows

lib = None


def sampler(name, *args):
    f = getattr(lib, "llama_sampler_" + name)
    f.restype, f.argtypes = P, SIGNATURES[name]
    return f(*args)


def parse(fields):
    p = dict(OFF, samplers="edskypmxt", bias=[], breakers=None)
    for field in fields:
        name, value = field.split("=", 1)
        if name == "logit_bias":
            token, bias = value.split(":")
            p["bias"].append((int(token), float("-inf") if bias == "false" else float(bias)))
        elif name == "dry_sequence_breaker":
            p["breakers"] = (p["breakers"] or []) + ([] if value == "none" else [value.encode()])
        elif name == "samplers":
            p[name] = "" if value == "none" else "".join(LETTERS[x] for x in value.split(";"))
        else:
            p[name] = float(value)
    return p


def make_link(letter, p, vocab, n_vocab, seed):
    keep = int(p["min_keep"])
    if letter == "e":
        last = int(p["repeat_last_n"])
        return sampler("init_penalties", n_vocab, CONTEXT if last < 0 else last, p["repeat_penalty"],
                       p["frequency_penalty"], p["presence_penalty"])
    if letter == "d":
        texts = p["breakers"] if p["breakers"] is not None else [b"\n", b":", b'"', b"*"]
        last = int(p["dry_penalty_last_n"])
        return sampler("init_dry", vocab, p["dry_multiplier"], p["dry_base"], int(p["dry_allowed_length"]),
                       CONTEXT if last < 0 else last, (ctypes.c_char_p * max(1, len(texts)))(*texts), len(texts))
    return {
        "s": lambda: sampler("init_top_n_sigma", p["top_n_sigma"]),
        "k": lambda: sampler("init_top_k", int(p["top_k"])),
        "y": lambda: sampler("init_typical", p["typical_p"], keep),
        "p": lambda: sampler("init_top_p", p["top_p"], keep),
        "m": lambda: sampler("init_min_p", p["min_p"], keep),
        "x": lambda: sampler("init_xtc", p["xtc_probability"], p["xtc_threshold"], keep, seed),
        "t": lambda: sampler("init_temp_ext", p["temp"], p["dynatemp_range"], p["dynatemp_exponent"]),
        "i": lambda: sampler("init_infill", vocab),
    }[letter]()


def make_chain(p, vocab, n_vocab, seed):
    chain = sampler("chain_init", ChainParams(True))

    def add(link):
        lib.llama_sampler_chain_add(P(chain), P(link))

    if p["bias"]:
        add(sampler("init_logit_bias", n_vocab, len(p["bias"]), (Bias * len(p["bias"]))(*p["bias"])))
    if p["mirostat"]:
        add(sampler("init_temp", p["temp"]))
        if p["mirostat"] == 1:
            add(sampler("init_mirostat", n_vocab, seed, p["mirostat_tau"], p["mirostat_eta"], 100))
        else:
            add(sampler("init_mirostat_v2", seed, p["mirostat_tau"], p["mirostat_eta"]))
        return chain
    for letter in p["samplers"]:
        if letter != "a":
            add(make_link(letter, p, vocab, n_vocab, seed))
    if "a" in p["samplers"]:
        add(sampler("init_adaptive_p", p["adaptive_target"], p["adaptive_decay"], seed))
    else:
        add(sampler("init_dist", seed))
    return chain


def pick(chain, row):
    data = (Data * len(row))()
    for i, x in enumerate(row):
        data[i].id, data[i].logit = i, x
    cur = DataArray(data, len(row), -1, False)
    lib.llama_sampler_apply(P(chain), ctypes.byref(cur))
    found = [(cur.data[i].id, cur.data[i].p) for i in range(cur.size) if cur.data[i].p > 0]
    return cur.data[cur.selected].id, sorted(found, key=lambda x: (-x[1], x[0]))


def run_case(p, rows, before, choices, vocab):
    """Lines of picks; None when no seed makes the peer choose as it should."""
    remembers = p["mirostat"] or ("a" in p["samplers"] and p["adaptive_target"] >= 0)
    for seed in range(1, 4000 if remembers else 2):
        chain = make_chain(p, vocab, len(rows[0]), seed)
        for token in before:
            lib.llama_sampler_accept(P(chain), token)
        picks = []
        for row, choice in zip(rows, choices):
            chosen, found = pick(chain, row)
            picks.append(f"{choice} " + " ".join(f"{i}:{q:.9g}" for i, q in found))
            if remembers and chosen != choice and len(picks) < len(rows):
                break
            lib.llama_sampler_accept(P(chain), choice)
        lib.llama_sampler_free(P(chain))
        if len(picks) == len(rows):
            return picks
    return None


def main(argv):
    global lib
    import peer_tokens
    lib = peer_tokens.lib
    lib.llama_log_set(peer_tokens.quiet, None)
    model, n_vocab = argv[1], int(argv[3])
    vocab = P(peer_tokens.load(model)[1]) if model != "-" else None
    logits = array.array("f")
    with open(argv[2], "rb") as f:
        logits.frombytes(f.read())
    with open(argv[4]) as f:
        cases = f.read().splitlines()
    with open(argv[5]) as f:
        choices = [[int(x) for x in line.split()] for line in f]
    for line, chosen in zip(cases, choices):
        fields = line.split("\t")
        rows = [logits[int(r) * n_vocab:(int(r) + 1) * n_vocab] for r in fields[0].split(",")]
        before = [] if fields[1] == "-" else [int(x) for x in fields[1].split(",")]
        picks = run_case(parse(fields[2:]), rows, before, chosen, vocab)
        print("\n".join(picks) if picks is not None else "?")
        print(".")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
