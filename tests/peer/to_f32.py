# SPDX-License-Identifier: MIT
"""to_f32.py IN.gguf OUT.gguf - the same model with every tensor as F32, dequantised by the peer's own tables.

Types that the peer's Python library cannot decode go through its C library (ggml_c.py).  Runs in the peer's Python, which has gguf and numpy.
"""
import sys

import numpy as np
from ggml_c import CLibrary
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

SKIP = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture", "general.file_type")


def decoded(t):
    """f32 of a tensor, or the tensor itself where it is plain numbers."""
    if t.tensor_type in (GGMLQuantizationType.F32, GGMLQuantizationType.I32):
        return t.data
    try:
        return quants.dequantize(t.data, t.tensor_type).astype(np.float32)
    except NotImplementedError:
        n, size = GGML_QUANT_SIZES[t.tensor_type]
        data = CLibrary().decode(t.tensor_type.name, t.data.reshape(-1, size), n)
        if data is None:
            raise
        return data.reshape(*t.data.shape[:-1], -1)


def main():
    r = GGUFReader(sys.argv[1])
    w = GGUFWriter(sys.argv[2], r.fields["general.architecture"].contents())
    for name, field in r.fields.items():
        if name in SKIP:
            continue
        kind = field.types[0]
        sub = field.types[-1] if kind == GGUFValueType.ARRAY else None
        w.add_key_value(name, field.contents(), kind, sub_type=sub)
    for t in r.tensors:
        w.add_tensor(t.name, np.ascontiguousarray(decoded(t)))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main()
