#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare the CPU plugin's weight decoders with the peer's, bit for bit.

usage: PERIGEE_PEER=.../peer dequant.py DEQUANT_TOOL [SEED]
       (runs itself inside the peer's root, where gguf and numpy are)

Per type: 2,000 blocks of random bytes, and 2,000 with finite scales of usual size.  Equal means the
same bits; where both are NaN their payload is not compared (it depends on operand order in the
processor, not on the format).  The peer's library has no decoder for F64, Q8_1 and Q8_K: those are
compared with their formula in numpy.
Exits 77 without a peer.
"""
import os
import subprocess
import sys

N_BLOCK = 2000
# Byte offsets of the f16 scales of a block.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q8_1": [0, 2],
          "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
          "F16": [0]}


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
    """The peer's values of uint8 [n][block bytes], f32."""
    if name == "F64":
        with np.errstate(all="ignore"):
            return blocks.view(np.float64).astype(np.float32)
    if name == "Q8_1":
        d = blocks[:, 0:2].copy().view(np.float16).astype(np.float32)
        return d * blocks[:, 4:].copy().view(np.int8).astype(np.float32)
    if name == "Q8_K":
        d = blocks[:, 0:4].copy().view(np.float32)
        return d * blocks[:, 4:260].copy().view(np.int8).astype(np.float32)
    return gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])


def cases(np, rng, name, size):
    random = rng.integers(0, 256, (N_BLOCK, size), dtype=np.uint8)
    yield "random bytes", random
    usual = random.copy()
    for at in SCALES.get(name, []):
        scale = rng.normal(0, 0.05, (N_BLOCK, 1)).astype(np.float16)
        usual[:, at:at + 2] = scale.view(np.uint8)
    if name in ("F32", "Q8_K"):
        usual[:, 0:4] = rng.normal(0, 1, (N_BLOCK, 1)).astype(np.float32).view(np.uint8)
    if name == "BF16":
        usual[:, 1] = usual[:, 1] & 0xBF
    if name == "F64":
        usual[:, 0:8] = rng.normal(0, 1, (N_BLOCK, 1)).view(np.uint8)
    yield "usual scales", usual


def main():
    import gguf
    import numpy as np
    tool, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    rng, failed = np.random.default_rng(seed), 0
    types = subprocess.run([tool], check=True, capture_output=True, text=True).stdout
    for line in types.splitlines():
        name, _, n, size = line.split()
        for what, blocks in cases(np, rng, name, int(size)):
            out = subprocess.run([tool, name], input=blocks.tobytes(), check=True,
                                 capture_output=True)
            got = np.frombuffer(out.stdout, np.float32).reshape(N_BLOCK, int(n))
            with np.errstate(all="ignore"):
                want = np.ascontiguousarray(expected(np, gguf, name, blocks), np.float32)
            want = want.reshape(got.shape)
            both_nan = np.isnan(got) & np.isnan(want)
            wrong = (got.view(np.uint32) != want.view(np.uint32)) & ~both_nan
            print(f"{name:5} {what}: {got.size} values, {int(both_nan.sum())} NaN, "
                  f"{int(wrong.sum())} differ")
            failed += bool(wrong.any())
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(__doc__)
        sys.exit(2)
    if "PERIGEE_IN_PEER" not in os.environ:
        run_in_peer()
    sys.exit(main())
