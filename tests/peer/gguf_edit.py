# SPDX-License-Identifier: MIT
"""Read the key-value part of a GGUF file, change it, write a vocabulary-only file.

Only what the tokenizer checks need: values stay raw bytes unless asked for.  Format source:
ggml-org/ggml docs/gguf.md.
"""
import struct

FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
U8, I32, F32, BOOL, STRING, ARRAY, U32 = 0, 5, 6, 7, 8, 9, 4


def string(data):
    return struct.pack("<Q", len(data)) + data


class Gguf:
    """kv maps key (str) to (type, raw bytes), in file order."""

    def __init__(self, path=None):
        self.kv = {}
        if path:
            with open(path, "rb") as f:
                self._read(f.read())

    def _read(self, d):
        if d[:4] != b"GGUF":
            raise ValueError("no GGUF file")
        n_kv = struct.unpack_from("<Q", d, 16)[0]
        at = 24
        for _ in range(n_kv):
            n = struct.unpack_from("<Q", d, at)[0]
            key = d[at + 8:at + 8 + n].decode()
            at += 8 + n
            kind = struct.unpack_from("<I", d, at)[0]
            at += 4
            end = self._skip(d, at, kind)
            self.kv[key] = (kind, d[at:end])
            at = end

    def _skip(self, d, at, kind):
        if kind in FIXED:
            return at + FIXED[kind]
        if kind == STRING:
            return at + 8 + struct.unpack_from("<Q", d, at)[0]
        element, n = struct.unpack_from("<IQ", d, at)
        at += 12
        if element in FIXED:
            return at + n * FIXED[element]
        for _ in range(n):
            at = self._skip(d, at, element)
        return at

    def strings(self, key):
        raw = self.kv[key][1]
        n = struct.unpack_from("<Q", raw, 4)[0]
        out, at = [], 12
        for _ in range(n):
            m = struct.unpack_from("<Q", raw, at)[0]
            out.append(raw[at + 8:at + 8 + m])
            at += 8 + m
        return out

    def set_str(self, key, text):
        self.kv[key] = (STRING, string(text.encode()))

    def set_bool(self, key, value):
        self.kv[key] = (BOOL, bytes([1 if value else 0]))

    def set_u32(self, key, value):
        self.kv[key] = (U32, struct.pack("<I", value))

    def set_f32(self, key, value):
        self.kv[key] = (F32, struct.pack("<f", value))

    def set_strs(self, key, values):
        self.kv[key] = (ARRAY, struct.pack("<IQ", STRING, len(values))
                        + b"".join(string(v) for v in values))

    def set_f32s(self, key, values):
        self.kv[key] = (ARRAY, struct.pack("<IQ%df" % len(values), F32, len(values), *values))

    def set_i32s(self, key, values):
        self.kv[key] = (ARRAY, struct.pack("<IQ%di" % len(values), I32, len(values), *values))

    def set_u8s(self, key, values):
        self.kv[key] = (ARRAY, struct.pack("<IQ", U8, len(values)) + bytes(values))

    def write(self, path):
        with open(path, "wb") as f:
            f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(self.kv)))
            for key, (kind, raw) in self.kv.items():
                f.write(string(key.encode()) + struct.pack("<I", kind) + raw)
