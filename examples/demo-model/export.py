#!/usr/bin/env python3
"""Writes a checkpoint as a GGUF file: matrices in Q8_0, norms in F32, vocabulary and chat template inside.

  python3 export.py --work build --out perigee-demo.gguf
"""
import argparse
import os
import struct

import numpy as np
import torch

from template import Template
from tokenizer import CONTROL, HERE, VISIBLE, Tokenizer

U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5      # GGUF value types
TENSOR_F32, TENSOR_Q8_0, BLOCK, ALIGN = 0, 8, 32, 32
FILE_TYPE_Q8_0 = 7


def string(s):
    data = s.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    if kind == STRING:
        return string(v)
    if kind == ARRAY:
        inner, items = v
        return struct.pack("<IQ", inner, len(items)) + b"".join(value(inner, x) for x in items)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], v)


def q8_0(x):
    """Blocks of 32: a half-precision scale and 32 signed bytes."""
    x = x.reshape(-1, BLOCK).astype(np.float32)
    d = np.abs(x).max(1) / 127
    inverse = np.divide(1, d, out=np.zeros_like(d), where=d > 0)
    out = np.zeros(len(x), dtype=[("d", "<f2"), ("q", "i1", BLOCK)])
    out["d"] = d
    out["q"] = np.rint(x * inverse[:, None])
    return out.tobytes()


def from_q8_0(data, shape):
    """What a runtime sees of a tensor in Q8_0."""
    b = np.frombuffer(data, dtype=[("d", "<f2"), ("q", "i1", BLOCK)])
    return (b["d"].astype(np.float32)[:, None] * b["q"]).reshape(shape)


def gguf_name(name):
    if name.startswith("layers."):
        return "blk." + name[len("layers."):]
    return {"embedding.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}[name]


def metadata(config, tokenizer, template, parameters):
    types = [4 if t in VISIBLE else 3 if t in CONTROL else 1 for t in tokenizer.tokens]
    return [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "Perigee demo"),
        ("general.description", STRING, "A toy of Perigee: answers and calls tools in a small domain. Trained on generated text."),
        ("general.license", STRING, "mit"),
        ("general.size_label", STRING, f"{parameters / 1e6:.1f}M"),
        ("general.file_type", U32, FILE_TYPE_Q8_0),
        ("general.quantization_version", U32, 2),
        ("general.alignment", U32, ALIGN),
        ("llama.block_count", U32, config["layers"]),
        ("llama.context_length", U32, config["context"]),
        ("llama.embedding_length", U32, config["width"]),
        ("llama.feed_forward_length", U32, config["ff"]),
        ("llama.attention.head_count", U32, config["heads"]),
        ("llama.attention.head_count_kv", U32, config["kv_heads"]),
        ("llama.attention.layer_norm_rms_epsilon", F32, config["eps"]),
        ("llama.rope.dimension_count", U32, config["width"] // config["heads"]),
        ("llama.rope.freq_base", F32, config["rope_base"]),
        ("llama.vocab_size", U32, config["vocab"]),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "qwen2"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, tokenizer.tokens)),
        ("tokenizer.ggml.token_type", ARRAY, (I32, types)),
        ("tokenizer.ggml.merges", ARRAY, (STRING, [f"{a} {b}" for a, b in tokenizer.merges])),
        ("tokenizer.ggml.bos_token_id", U32, tokenizer.end),
        ("tokenizer.ggml.eos_token_id", U32, tokenizer.end),
        ("tokenizer.ggml.add_bos_token", BOOL, False),
        ("tokenizer.chat_template", STRING, template),
    ]


def write(path, weights, config, tokenizer, template):
    """Writes the file under another name first, so that path is never half a file."""
    tensors = []
    for name, w in weights.items():
        w = w.detach().numpy().astype(np.float32)
        if w.ndim == 1:
            tensors.append((gguf_name(name), w.shape, TENSOR_F32, w.tobytes()))
        else:
            tensors.append((gguf_name(name), w.shape, TENSOR_Q8_0, q8_0(w)))
    meta = metadata(config, tokenizer, template, sum(w.numel() for w in weights.values()))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta))
    for key, kind, v in meta:
        head += string(key) + struct.pack("<I", kind) + value(kind, v)
    offset = 0
    for name, shape, kind, data in tensors:
        head += string(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in reversed(shape))
        head += struct.pack("<IQ", kind, offset)
        offset += -(-len(data) // ALIGN) * ALIGN
    with open(path + ".new", "wb") as f:
        f.write(head + bytes(-len(head) % ALIGN))
        for _, _, _, data in tensors:
            f.write(data + bytes(-len(data) % ALIGN))
    os.replace(path + ".new", path)


def main():
    p = argparse.ArgumentParser(description="write a checkpoint as GGUF")
    p.add_argument("--work", default=os.path.join(HERE, "build"), help="folder of vocabulary and checkpoint")
    p.add_argument("--out", default=os.path.join(HERE, "perigee-demo.gguf"))
    a = p.parse_args()
    saved = torch.load(os.path.join(a.work, "checkpoint.pt"))
    tokenizer = Tokenizer.load(os.path.join(a.work, "tokenizer.json"))
    write(a.out, saved["model"], saved["config"], tokenizer, Template().text)
    print(f"{a.out}: {os.path.getsize(a.out)} bytes, of step {saved['step']}")


if __name__ == "__main__":
    main()
