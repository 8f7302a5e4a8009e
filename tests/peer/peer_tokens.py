#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ask the peer runtime's library for token ids and texts, many at a time.

Runs inside the peer's own root (`$PERIGEE_PEER python3 peer_tokens.py ...`) and loads libllama
through ctypes, so nothing of it is compiled or linked here.

usage: peer_tokens.py info   MODEL...                 one line of settings per file
       peer_tokens.py encode MODEL INPUTS [special] [parse]
                                                      INPUTS: NUL-separated; one line of ids each
       peer_tokens.py decode MODEL IDS [unparse]      IDS: a line of ids each; a line of hex each
       peer_tokens.py pieces MODEL [unparse]          hex of every token, one per line
       peer_tokens.py time   MODEL TEXT N             CPU seconds of the fastest of N encodings
"""
import ctypes
import sys
import time


class ModelParams(ctypes.Structure):
    """struct llama_model_params of llama.h."""

    _fields_ = [
        ("devices", ctypes.c_void_p),
        ("buft_overrides", ctypes.c_void_p),
        ("n_gpu_layers", ctypes.c_int32),
        ("split_mode", ctypes.c_int32),
        ("load_mode", ctypes.c_int32),
        ("lazy_mode", ctypes.c_int32),
        ("main_gpu", ctypes.c_int32),
        ("tensor_split", ctypes.c_void_p),
        ("progress", ctypes.c_void_p),
        ("progress_user", ctypes.c_void_p),
        ("kv_overrides", ctypes.c_void_p),
        ("vocab_only", ctypes.c_bool),
        ("check_tensors", ctypes.c_bool),
        ("use_extra_bufts", ctypes.c_bool),
        ("no_host", ctypes.c_bool),
        ("no_alloc", ctypes.c_bool),
        ("load_mtp", ctypes.c_bool),
    ]


LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
quiet = LOG(lambda level, text, user: None)
lib = ctypes.CDLL("libllama.so.0")
lib.llama_model_default_params.restype = ModelParams
lib.llama_model_load_from_file.restype = ctypes.c_void_p
lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, ModelParams]
lib.llama_model_get_vocab.restype = ctypes.c_void_p
lib.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
lib.llama_model_free.argtypes = [ctypes.c_void_p]
lib.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p,
                               ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]
lib.llama_detokenize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p,
                                 ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]
lib.llama_token_to_piece.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p,
                                     ctypes.c_int32, ctypes.c_int32, ctypes.c_bool]


def load(path):
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = lib.llama_model_load_from_file(path.encode(), params)
    return (model, lib.llama_model_get_vocab(model)) if model else (None, None)


def encode(vocab, text, special, parse):
    room = len(text) * 4 + 16
    ids = (ctypes.c_int32 * room)()
    n = lib.llama_tokenize(vocab, text, len(text), ids, room, special, parse)
    if n < 0:
        room = -n
        ids = (ctypes.c_int32 * room)()
        n = lib.llama_tokenize(vocab, text, len(text), ids, room, special, parse)
    return ids[:n]


def decode(vocab, ids, unparse):
    arr = (ctypes.c_int32 * max(1, len(ids)))(*ids)
    room = 64 * len(ids) + 64
    while True:
        buf = ctypes.create_string_buffer(room)
        n = lib.llama_detokenize(vocab, arr, len(ids), buf, room, False, unparse)
        if n >= 0:
            return buf.raw[:n]
        room = -n


def info(path):
    model, vocab = load(path)
    if not model:
        return "refused"
    member = {}
    for name in ("get_pre_type", "get_add_bos", "get_add_eos", "get_add_sep",
                 "get_add_space_prefix", "get_ignore_merges", "get_clean_spaces",
                 "get_remove_extra_whitespaces", "get_escape_whitespaces", "token_bos",
                 "token_eos", "token_eot", "token_eom", "token_unk", "token_sep", "token_nl",
                 "n_tokens"):
        f = getattr(lib, "_ZNK11llama_vocab%d%sEv" % (len(name), name))
        f.argtypes = [ctypes.c_void_p]
        boolean = name.startswith("get_") and name != "get_pre_type"
        f.restype = ctypes.c_bool if boolean else ctypes.c_int32
        member[name.replace("get_", "")] = int(f(vocab))
    n = member["n_tokens"]
    eog = [i for i in range(n) if lib.llama_vocab_is_eog(ctypes.c_void_p(vocab), i)]
    lib.llama_model_free(model)
    return " ".join("%s=%d" % kv for kv in member.items()) + " eog=" + ",".join(map(str, eog))


def main(argv):
    lib.llama_log_set(quiet, None)
    mode, path = argv[1], argv[2]
    if mode == "info":
        for p in argv[2:]:
            print(p.rsplit("/", 1)[-1], info(p))
        return 0
    model, vocab = load(path)
    if not model:
        print("peer_tokens: the peer refuses", path, file=sys.stderr)
        return 1
    out = sys.stdout
    if mode == "encode":
        with open(argv[3], "rb") as f:
            texts = f.read().split(b"\0")
        for text in texts:
            out.write(" ".join(map(str, encode(vocab, text, "special" in argv[4:],
                                               "parse" in argv[4:]))) + "\n")
    elif mode == "decode":
        with open(argv[3]) as f:
            for line in f:
                out.write(decode(vocab, [int(x) for x in line.split()],
                                 "unparse" in argv[4:]).hex() + "\n")
    elif mode == "pieces":
        f = lib._ZNK11llama_vocab8n_tokensEv
        f.argtypes = [ctypes.c_void_p]
        buf = ctypes.create_string_buffer(1 << 18)
        for i in range(f(vocab)):
            n = lib.llama_token_to_piece(vocab, i, buf, 1 << 18, 0, "unparse" in argv[3:])
            out.write(buf.raw[:max(n, 0)].hex() + "\n")
    elif mode == "time":
        with open(argv[3], "rb") as f:
            text = f.read()
        best = 1e9
        for _ in range(int(argv[4])):
            t = time.process_time()
            n = len(encode(vocab, text, False, False))
            best = min(best, time.process_time() - t)
        print("%.6f %d" % (best, n))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
