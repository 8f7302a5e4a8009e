"""Reads what export.py writes: metadata and tensors of a GGUF file, as numpy arrays."""
import struct

import numpy as np

FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}


class Reader:
    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = f.read()
        self.at = 4
        version, tensors, pairs = self.unpack("<IQQ")
        assert self.data[:4] == b"GGUF" and version == 3
        self.metadata = {}
        for _ in range(pairs):
            key = self.string()
            self.metadata[key] = self.value(self.unpack("<I")[0])
        infos = []
        for _ in range(tensors):
            name = self.string()
            shape = [self.unpack("<Q")[0] for _ in range(self.unpack("<I")[0])][::-1]
            infos.append((name, shape, *self.unpack("<IQ")))
        start = self.at + -self.at % self.metadata.get("general.alignment", 32)
        self.tensors = {name: self.tensor(shape, kind, start + offset) for name, shape, kind, offset in infos}

    def unpack(self, form):
        out = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return out

    def string(self):
        n, = self.unpack("<Q")
        self.at += n
        return self.data[self.at - n:self.at].decode()

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind == 9:
            inner, n = self.unpack("<IQ")
            return [self.value(inner) for _ in range(n)]
        return self.unpack(FORMATS[kind])[0]

    def tensor(self, shape, kind, at):
        n = int(np.prod(shape))
        if kind == 0:
            return np.frombuffer(self.data, "<f4", n, at).reshape(shape)
        assert kind == 8, "only F32 and Q8_0 are written here"
        b = np.frombuffer(self.data, [("d", "<f2"), ("q", "i1", 32)], n // 32, at)
        return (b["d"].astype(np.float32)[:, None] * b["q"]).reshape(shape)
