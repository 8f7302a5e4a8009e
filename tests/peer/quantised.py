#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""quantised.py --perigee PROGRAM [--preset P] [--layers N] [--types q8_0,q4_k_m,...] - logits of quantised files.

Without --layers: all types on 2 layers, and when PERI_LONG is set two of them on 12. A type of the list BLOCKS is given to the
matrices of the layers, with embedding and output in Q8_0: those types take the peer long to quantise.

A random model is quantised by the peer, and turned back into F32 by the peer's dequantisation. Then, over a random sequence:

  reference   our reference path (cpu.isa=reference: activations stay f32) against the peer's logits of the F32 file:
              each row within 1e-3, same best token where the peer's two best differ by more than 1e-3
  fast        our fast path against our reference: below 6e-2, and at most 1.3 times as far as the peer's own fast path
              is from its F32 file (relative L2 over all rows)

PERIGEE_PEER names the peer's runner (status 77 without it or without make_model.py beside it).
"""
import argparse
import math
import os
import shutil
import sys
import tempfile

from compare import SKIP, Distance, call, is_long, our_logits, peer, peer_logits, random_tokens, seed

N_TOK = 64
FAST, RATIO = 6e-2, 1.3
PURE = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0")
BLOCKS = ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0", "mxfp4", "nvfp4",
          "q1_0", "q2_0")
TYPES = (*PURE, "q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", *BLOCKS)


def relative(a, b):
    return math.dist(a, b) / max(math.dist(b, [0.0] * len(b)), 1e-30)


def check(perigee, tmp, kind, quantised, tokens):
    plain = os.path.join(tmp, "plain.gguf")
    call([peer(), "python3", os.path.join(tmp, "to_f32.py"), quantised, plain])
    out = os.path.join(tmp, "out.bin")
    theirs = peer_logits(plain, tokens, out)
    theirs_fast = peer_logits(quantised, tokens, out)
    reference = our_logits(perigee, quantised, tokens, out, "--set", "cpu.isa=reference")
    fast = our_logits(perigee, quantised, tokens, out)
    os.unlink(plain)
    d = Distance()
    d.add(reference, theirs, len(tokens))
    ours_off, peer_off = relative(fast, reference), relative(theirs_fast, theirs)
    good = d.is_good() and ours_off < FAST and ours_off <= RATIO * peer_off
    print(f"{kind:8} {d.worst:10.2e} {'same' if d.wrong == 0 else str(d.wrong) + ' wrong':>12} {ours_off:10.2e} {peer_off:10.2e} "
          f"{ours_off / max(peer_off, 1e-30):7.2f}{'' if good else '  FAILED'}", flush=True)
    return good


def quantise(model, quantised, kind):
    """The peer's model with weights of that type."""
    options, name = [], kind
    if kind in PURE:
        options = ["--pure"]
    if kind in BLOCKS:
        options, name = ["--imatrix", model + ".imatrix", "--tensor-type", r"blk\..*=" + kind], "q8_0"
    call([peer(), "llama-quantize", *options, model, quantised, name])


def check_shape(perigee, preset, layers, types):
    """The number of types that failed."""
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        script = shutil.copy(make_model(), tmp)     # the peer sees the folder of temporary files
        for name in ("to_f32.py", "ggml_c.py", "imatrix.py"):
            shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), tmp)
        model, quantised = os.path.join(tmp, "model.gguf"), os.path.join(tmp, "quantised.gguf")
        call([peer(), "python3", script, preset, model, "--layers", str(layers), "--type", "f16", "--seed", str(seed())])
        call([peer(), "python3", os.path.join(tmp, "imatrix.py"), model, model + ".imatrix"])
        print(f"{preset}, {layers} layers, seed {seed()}, {N_TOK} tokens")
        print(f"{'type':8} {'reference':>10} {'best tokens':>12} {'fast':>10} {'peer fast':>10} {'ratio':>7}")
        width = None
        for kind in types:
            quantise(model, quantised, kind)
            if width is None:
                width = len(our_logits(perigee, quantised, [0], os.path.join(tmp, "width.bin")))
            try:
                bad += not check(perigee, tmp, kind, quantised, random_tokens(kind, N_TOK, width))
            except RuntimeError as e:
                print(f"{kind:8} FAILED: {e}")
                bad += 1
    return bad


def make_model():
    return os.path.join(os.path.dirname(os.path.realpath(peer())), "make_model.py")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--perigee", required=True)
    p.add_argument("--preset", default="qwen3-0.6b")
    p.add_argument("--layers", type=int)
    p.add_argument("--types", default=",".join(TYPES))
    a = p.parse_args()
    if not os.path.exists(make_model()):
        print("skipped: no make_model.py beside the peer's runner")
        return SKIP
    bad = check_shape(a.perigee, a.preset, a.layers or 2, a.types.split(","))
    if a.layers is None and is_long():
        bad += check_shape(a.perigee, a.preset, 12, ["q8_0", "q4_k_m"])
    print(f"{bad} types failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
