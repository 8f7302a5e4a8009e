# SPDX-License-Identifier: MIT
"""ggml_c.py - the weight decoders of the peer's C library, for the scripts that run inside the peer's root."""
import ctypes

import numpy as np


class CLibrary:
    def __init__(self):
        self.lib = ctypes.CDLL("libggml-base.so.0")

    def decode(self, name, blocks, n):
        """f32 [blocks][n] of uint8 [blocks][bytes]; None without a decoder of that name."""
        suffix = name[:-1].lower() + "K" if name.endswith("_K") else name.lower()
        fn = getattr(self.lib, "dequantize_row_" + suffix, None)
        if fn is None:
            return None
        fn.argtypes, fn.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None
        src = np.ascontiguousarray(blocks)
        out = np.empty((len(blocks), n), np.float32)
        fn(src.ctypes.data, out.ctypes.data, out.size)
        return out
