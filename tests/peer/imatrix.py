# SPDX-License-Identifier: MIT
"""imatrix.py MODEL.gguf OUT.gguf - an importance matrix that calls every column of every matrix equally important.

The peer refuses to quantise to its smallest types without one.  Runs in the peer's Python, which has gguf and numpy.
"""
import sys

import numpy as np
from gguf import GGUFReader, GGUFWriter


def main():
    w = GGUFWriter(sys.argv[2], "")
    w.add_type("imatrix")
    w.add_array("imatrix.datasets", ["uniform"])
    w.add_uint32("imatrix.chunk_count", 1)
    w.add_uint32("imatrix.chunk_size", 512)
    for t in GGUFReader(sys.argv[1]).tensors:
        if len(t.shape) < 2:
            continue
        n_expert = int(t.shape[2]) if len(t.shape) > 2 else 1
        w.add_tensor(t.name + ".in_sum2", np.full((n_expert, int(t.shape[0])), 512, np.float32))
        w.add_tensor(t.name + ".counts", np.full((n_expert, 1), 512, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main()
