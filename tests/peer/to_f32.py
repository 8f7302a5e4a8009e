# SPDX-License-Identifier: MIT
"""to_f32.py IN.gguf OUT.gguf - the same model with every tensor as F32, dequantised by the peer's own tables.

Runs in the peer's Python, which has gguf and numpy.
"""
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

SKIP = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture", "general.file_type")


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
        if t.tensor_type in (GGMLQuantizationType.F32, GGMLQuantizationType.I32):
            data = t.data
        else:
            data = quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        w.add_tensor(t.name, np.ascontiguousarray(data))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main()
