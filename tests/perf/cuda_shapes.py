# SPDX-License-Identifier: MIT
"""cuda_shapes.py [NAME OUT] - models of published shapes with made-up weights, as GGUF files that the engine runs.

Weights are legal blocks of random bits, never quantised from numbers: scales are set so that a weight's variance is about
1 / (elements of its row), which keeps activations finite through all layers.  A run of a few megabytes per type and row
length is repeated, so a file is written as fast as memory takes it.  Experts are chosen by random routers, hence evenly,
which real ones do not do.  Without arguments the names.
"""
import math
import os
import random
import struct
import sys
from concurrent.futures import ThreadPoolExecutor

# n layers, d width, h heads over kv, dh their width, ff; v words; experts, used, ffe. Sources: config.json of each model.
SHAPES = {
    "llama-3.1-8b": dict(arch="llama", n=32, d=4096, h=32, kv=8, dh=128, ff=14336, v=128256, base=5e5),
    "qwen3-30b-a3b": dict(arch="qwen3moe", n=48, d=2048, h=32, kv=4, dh=128, ff=6144, v=151936, base=1e6, qk=True,
                          experts=128, used=8, ffe=768),
    "qwen3-8b": dict(arch="qwen3", n=36, d=4096, h=32, kv=8, dh=128, ff=12288, v=151936, base=1e6, qk=True),
    "qwen3-0.6b": dict(arch="qwen3", n=28, d=1024, h=16, kv=8, dh=128, ff=3072, v=151936, base=1e6, qk=True, tied=True),
    "toy-dense": dict(arch="llama", n=2, d=256, h=4, kv=2, dh=64, ff=512, v=300, base=1e4),
    "toy-experts": dict(arch="qwen3moe", n=2, d=256, h=4, kv=2, dh=64, ff=512, v=300, base=1e4, qk=True, tied=True,
                        experts=8, used=2, ffe=256),
}
# Of each type its number in the file, elements and bytes of a block, offsets of f16 scales, their size for rows of one element
TYPES = {
    "F32": (0, 1, 4, (), 0), "BF16": (30, 1, 2, (), 0),
    "Q4_0": (2, 32, 18, (0,), 1 / 4.6), "Q8_0": (8, 32, 34, (0,), 1 / 74),
    "Q4_K": (12, 256, 144, (0, 2), 1 / 258), "Q6_K": (14, 256, 210, (208,), 1 / 1366),
}
RUN_BYTES, THREADS = 4 << 20, 8


def tensors(s, mix):
    """(name, shape slowest first, type) of every tensor; mix: a type, or Q4_K_M."""
    n, d, heads, kv = s["n"], s["d"], s["h"] * s["dh"], s["kv"] * s["dh"]
    plain = "Q4_K" if mix == "Q4_K_M" else mix
    better = "Q6_K" if mix == "Q4_K_M" else mix
    out = [("token_embd.weight", (s["v"], d), better if s.get("tied") else plain)]
    for i in range(n):
        b = f"blk.{i}."
        more = better if i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2 else plain
        out += [(b + "attn_norm.weight", (d,), "F32"), (b + "ffn_norm.weight", (d,), "F32"),
                (b + "attn_q.weight", (heads, d), plain), (b + "attn_k.weight", (kv, d), plain),
                (b + "attn_v.weight", (kv, d), more), (b + "attn_output.weight", (d, heads), plain)]
        if s.get("qk"):
            out += [(b + "attn_q_norm.weight", (s["dh"],), "F32"), (b + "attn_k_norm.weight", (s["dh"],), "F32")]
        if "experts" in s:
            e, f = s["experts"], s["ffe"]
            out += [(b + "ffn_gate_inp.weight", (e, d), "F32"), (b + "ffn_gate_exps.weight", (e, f, d), plain),
                    (b + "ffn_up_exps.weight", (e, f, d), plain), (b + "ffn_down_exps.weight", (e, d, f), more)]
        else:
            out += [(b + "ffn_gate.weight", (s["ff"], d), plain), (b + "ffn_up.weight", (s["ff"], d), plain),
                    (b + "ffn_down.weight", (d, s["ff"]), more)]
    out.append(("output_norm.weight", (d,), "F32"))
    return out if s.get("tied") else out + [("output.weight", (s["v"], d), better)]


def size_of(shape, kind):
    _, elements, size, _, _ = TYPES[kind]
    return math.prod(shape) // elements * size


# ---- what a step reads

def step_bytes(s, mix, batch, held):
    """Bytes of weights that a step of `batch` sequences reads, each once, and of f16 keys and values of `held` tokens each."""
    weights = 0
    for name, shape, kind in tensors(s, mix):
        part = size_of(shape, kind)
        if name == "token_embd.weight" and not s.get("tied"):
            continue
        if "_exps." in name:  # of evenly chosen experts so many differ
            part *= 1 - (1 - s["used"] / s["experts"]) ** batch
        weights += part
    return weights, 2 * 2 * s["n"] * s["kv"] * s["dh"] * held * batch


def kv_bytes(s, batch, tokens):
    return step_bytes(s, "Q4_K_M", batch, tokens)[1]


def file_bytes(s, mix):
    return sum(size_of(shape, kind) for _, shape, kind in tensors(s, mix))


# ---- weights

def run_of(kind, width, rng):
    """Some megabytes of blocks of rows of `width` elements; their number is odd, so that rows are not alike."""
    _, elements, size, scales, unit = TYPES[kind]
    n = RUN_BYTES // size | 1
    if kind == "F32":
        return b"".join(struct.pack("<f", rng.gauss(0, 1 / math.sqrt(width))) for _ in range(65537))
    run = bytearray(rng.randbytes(n * size))
    if kind == "BF16":  # exponents next to that of 1 / sqrt(width), any sign and mantissa
        exponent = 126 - int(math.log2(width) / 2)
        run[1::2] = bytes(rng.choices((exponent >> 1, exponent >> 1 | 0x80), k=n))
    for at, i in zip(scales, range(2)):
        # the second scale is that of the minimum, 7.5 times the first: the mean of 4 bits
        h = struct.pack("<e", unit / math.sqrt(width) * (7.5 if i else 1))
        run[at::size], run[at + 1::size] = bytes([h[0]]) * n, bytes([h[1]]) * n
    return bytes(run)


def write_run(fd, at, size, run):
    end = at + size
    while at < end:
        at += os.pwrite(fd, run[:end - at], at)


# ---- the file

def text(s):
    s = s.encode()
    return struct.pack("<Q", len(s)) + s


def array(kind, items):
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def words(n):
    """A byte-level vocabulary, filled up to n."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters, extra = {b: chr(b) for b in plain}, 0
    for b in range(256):
        if b not in letters:
            letters[b], extra = chr(256 + extra), extra + 1
    return [letters[b] for b in range(256)] + [f"<|filler_{i}|>" for i in range(n - 256)]


def header(name, s, mix, listed):
    a, u32, f32 = s["arch"], lambda v: (4, struct.pack("<I", v)), lambda v: (6, struct.pack("<f", v))
    keys = {"general.architecture": (8, text(a)), "general.name": (8, text(f"{name} {mix}, random")),
            a + ".context_length": u32(40960), a + ".embedding_length": u32(s["d"]), a + ".block_count": u32(s["n"]),
            a + ".feed_forward_length": u32(s["ff"]), a + ".attention.head_count": u32(s["h"]),
            a + ".attention.head_count_kv": u32(s["kv"]), a + ".attention.key_length": u32(s["dh"]),
            a + ".attention.value_length": u32(s["dh"]), a + ".rope.dimension_count": u32(s["dh"]),
            a + ".rope.freq_base": f32(s["base"]), a + ".attention.layer_norm_rms_epsilon": f32(1e-6),
            "tokenizer.ggml.model": (8, text("gpt2")), "tokenizer.ggml.pre": (8, text("default")),
            "tokenizer.ggml.tokens": (9, array(8, [text(w) for w in words(s["v"])])),
            "tokenizer.ggml.token_type": (9, array(5, [struct.pack("<i", 1 if i < 256 else 5) for i in range(s["v"])])),
            "tokenizer.ggml.merges": (9, array(8, [text("\u0120 a")])),
            "tokenizer.ggml.bos_token_id": u32(256), "tokenizer.ggml.eos_token_id": u32(257),
            "tokenizer.ggml.add_bos_token": (7, b"\0")}
    if "experts" in s:
        keys.update({a + ".expert_count": u32(s["experts"]), a + ".expert_used_count": u32(s["used"]),
                     a + ".expert_feed_forward_length": u32(s["ffe"])})
    head, off = b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(keys)), 0
    for key, (kind, value) in keys.items():
        head += text(key) + struct.pack("<I", kind) + value
    places = []
    for tensor, shape, kind in listed:
        head += text(tensor) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += struct.pack("<IQ", TYPES[kind][0], off)
        places.append(off)
        off += (size_of(shape, kind) + 31) // 32 * 32
    head += bytes(-len(head) % 32)
    return head, places, off


def write(name, path, mix, seed=1):
    """Write the model; its size in bytes."""
    s, rng, runs = SHAPES[name], random.Random(seed), {}
    listed = tensors(s, mix)
    head, places, size = header(name, s, mix, listed)
    for _, shape, kind in listed:
        if (kind, shape[-1]) not in runs:
            runs[kind, shape[-1]] = run_of(kind, shape[-1], rng)
    ones = struct.pack("<f", 1.0) * max(s["d"], s["dh"])
    with open(path, "wb") as f, ThreadPoolExecutor(THREADS) as pool:
        f.write(head)
        f.truncate(len(head) + size)
        f.flush()
        jobs = [pool.submit(write_run, f.fileno(), len(head) + at, size_of(shape, kind),
                            ones if tensor.endswith("norm.weight") else runs[kind, shape[-1]])
                for (tensor, shape, kind), at in zip(listed, places)]
        for job in jobs:
            job.result()
    return len(head) + size


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in SHAPES:
        print(write(sys.argv[1], sys.argv[2], "Q4_K_M"))
    elif len(sys.argv) == 1:
        print("\n".join(SHAPES))
    else:
        sys.exit(__doc__.splitlines()[0])
