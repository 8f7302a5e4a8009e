# SPDX-License-Identifier: MIT
"""tiny_gguf.py OUT SEED [ROWS] - a GGUF file that is well formed and holds random weights: enough to be stored, too little
to run.  Every seed gives other bytes; 32 weights of 2 bytes a row."""
import random
import struct
import sys


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def main():
    out, seed = sys.argv[1], int(sys.argv[2])
    rows = int(sys.argv[3]) if len(sys.argv) > 3 else 64
    keys = [("general.architecture", 8, text("llama")), ("general.file_type", 4, struct.pack("<I", 1)),
            ("llama.context_length", 4, struct.pack("<I", 128)), ("llama.embedding_length", 4, struct.pack("<I", 32)),
            ("tokenizer.chat_template", 8, text("{% for m in messages %}{{ m.content }}{% endfor %}"))]
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys))
    for name, kind, value in keys:
        head += text(name) + struct.pack("<I", kind) + value
    head += text("token_embd.weight") + struct.pack("<IQQIQ", 2, 32, rows, 1, 0)
    head += bytes(-len(head) % 32)
    with open(out, "wb") as f:
        f.write(head + random.Random(seed).randbytes(64 * rows))


main()
