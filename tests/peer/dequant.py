#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare the CPU plugin's weight decoders with the peer's, bit for bit.

usage: PERIGEE_PEER=.../peer dequant.py DEQUANT_TOOL [SEED]
       (runs itself inside the peer's root, where gguf and numpy are)

Per type: 2,000 blocks of random bytes, and 2,000 with finite scales of usual size.  Equal means the
same bits; where both are NaN their payload is not compared (it depends on operand order in the
processor, not on the format).  The random index bytes read every entry of every grid; the count
of those read is printed.  The peer's Python library has no decoder for F64, Q8_1, Q8_K, Q1_0 and
Q2_0: the first three are compared with their formula in numpy, the last two with the peer's C
library, which serves as a second opinion for all others that it decodes.
Exits 77 without a peer.
"""
import os
import subprocess
import sys

N_BLOCK = 2000
# Byte offsets of the f16 scales of a block.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q8_1": [0, 2],
          "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
          "F16": [0], "IQ4_NL": [0], "IQ4_XS": [0], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0],
          "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0], "TQ1_0": [52], "TQ2_0": [64], "Q1_0": [0],
          "Q2_0": [0]}
# Number of index bits of a grid type; bytes of a block to its indices.
GRIDS = {"IQ2_XXS": 8, "IQ2_XS": 9, "IQ2_S": 10, "IQ3_XXS": 8, "IQ3_S": 9, "IQ1_S": 11,
         "IQ1_M": 11}


def run_in_peer():
    """Start again inside the peer's root; never returns."""
    peer = os.environ.get("PERIGEE_PEER")
    if not peer or not os.access(peer, os.X_OK):
        print("skipped: PERIGEE_PEER names no peer")
        sys.exit(77)
    tool = os.path.abspath(sys.argv[1])
    env = dict(os.environ, PERIGEE_IN_PEER="1")
    args = [peer, "python3", os.path.abspath(__file__), tool] + sys.argv[2:]
    sys.exit(subprocess.run(args, env=env, check=False).returncode)


def expected(np, gguf, name, blocks):
    """The values of uint8 [n][block bytes] by the peer's Python library, f32; None: it has no decoder."""
    if name == "F64":
        with np.errstate(all="ignore"):
            return blocks.view(np.float64).astype(np.float32)
    if name == "Q8_1":
        d = blocks[:, 0:2].copy().view(np.float16).astype(np.float32)
        return d * blocks[:, 4:].copy().view(np.int8).astype(np.float32)
    if name == "Q8_K":
        d = blocks[:, 0:4].copy().view(np.float32)
        return d * blocks[:, 4:260].copy().view(np.int8).astype(np.float32)
    if name in ("Q1_0", "Q2_0"):
        return None
    return gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])


def indices(np, name, b):
    """The grid indices in uint8 [n][block bytes], worked out from the layout."""
    def spread(x, step, count, mask):
        return ((x[:, :, None].astype(np.uint32) >> (np.arange(count) * step)) & mask).reshape(len(b), -1)
    if name == "IQ2_XXS":
        return b[:, 2:66].reshape(len(b), 8, 8)[:, :, :4]
    if name == "IQ2_XS":
        return b[:, 2:66].copy().view(np.uint16) & 511
    if name == "IQ2_S":
        return b[:, 2:34] | spread(b[:, 66:74], 2, 4, 3) << 8
    if name == "IQ3_XXS":
        return b[:, 2:66]
    if name == "IQ3_S":
        return b[:, 2:66] | spread(b[:, 66:74], 1, 8, 1) << 8
    if name == "IQ1_S":
        return b[:, 2:34] | spread(b[:, 34:50].copy().view(np.uint16), 3, 4, 7) << 8
    return b[:, 0:32] | spread(b[:, 32:48], 4, 2, 7) << 8


def all_read(np, name, blocks):
    """Whether the blocks read every entry of the type's grid."""
    seen, wanted = len(np.unique(indices(np, name, blocks))), 1 << GRIDS[name]
    print(f"{name:7} {seen} of {wanted} grid entries read")
    return seen == wanted


def differing(np, got, want):
    """Values with other bits, NaNs apart, and the number of NaNs on both sides."""
    both_nan = np.isnan(got) & np.isnan(want)
    wrong = (got.view(np.uint32) != want.view(np.uint32)) & ~both_nan
    return int(wrong.sum()), int(both_nan.sum())


def cases(np, rng, name, size):
    random = rng.integers(0, 256, (N_BLOCK, size), dtype=np.uint8)
    yield "random bytes", random
    usual = random.copy()
    for at in SCALES.get(name, []):
        scale = rng.normal(0, 0.05, (N_BLOCK, 1)).astype(np.float16)
        usual[:, at:at + 2] = scale.view(np.uint8)
    if name in ("F32", "Q8_K"):
        usual[:, 0:4] = rng.normal(0, 1, (N_BLOCK, 1)).astype(np.float32).view(np.uint8)
    if name == "IQ1_M":     # the scale is spread over the top nibbles of four words
        scale = rng.normal(0, 0.05, N_BLOCK).astype(np.float16).view(np.uint16)
        for i in range(4):
            usual[:, 49 + 2 * i] = usual[:, 49 + 2 * i] & 15 | (scale >> 4 * i & 15) << 4
    if name == "MXFP4":
        usual[:, 0] = rng.integers(110, 130, N_BLOCK)
    if name == "BF16":
        usual[:, 1] = usual[:, 1] & 0xBF
    if name == "F64":
        usual[:, 0:8] = rng.normal(0, 1, (N_BLOCK, 1)).view(np.uint8)
    yield "usual scales", usual


def check(np, gguf, c_library, tool, name, n, what, blocks):
    """Whether our decoder agrees with the peer's; prints a line."""
    out = subprocess.run([tool, name], input=blocks.tobytes(), check=True, capture_output=True)
    got = np.frombuffer(out.stdout, np.float32).reshape(len(blocks), n)
    with np.errstate(all="ignore"):
        python = expected(np, gguf, name, blocks)
    c = c_library.decode(name, blocks, n)
    good, said = python is not None or c is not None, ""
    for who, want in (("Python", python), ("C", c)):
        if want is None:
            said += f", {who}: no decoder"
            continue
        wrong, nan = differing(np, got, np.ascontiguousarray(want, np.float32).reshape(got.shape))
        said += f", {who}: {wrong} differ ({nan} NaN)"
        good = good and wrong == 0
    print(f"{name:7} {what}: {got.size} values{said}{'' if good else '  FAILED'}")
    return good


def main():
    import gguf
    import numpy as np
    from ggml_c import CLibrary
    tool, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    rng, failed, c_library = np.random.default_rng(seed), 0, CLibrary()
    types = subprocess.run([tool], check=True, capture_output=True, text=True).stdout
    for line in types.splitlines():
        name, _, n, size = line.split()
        for what, blocks in cases(np, rng, name, int(size)):
            failed += not check(np, gguf, c_library, tool, name, int(n), what, blocks)
            if name in GRIDS:
                failed += not all_read(np, name, blocks)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(__doc__)
        sys.exit(2)
    if "PERIGEE_IN_PEER" not in os.environ:
        run_in_peer()
    sys.exit(main())
