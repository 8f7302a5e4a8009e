#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""logits.py --perigee PROGRAM --arch-dir scripts/arch [MODEL.gguf ...] - our logits against the peer's on F32 files.

For each architecture that has a spec, the peer writes random models (its test-llama-archs); files given on the command line
and, where make_model.py lies beside the peer's runner, shapes with linear and YaRN scaled positions are added. Random
sequences of 1, 7, 64 and 300 tokens are computed in one chunk, in chunks of 32 and token by token: the three must be the same
bytes, and each row within 1e-3 of the peer's (relative L2), with the same best token wherever the peer's two best
differ by more than 1e-3.

PERIGEE_PEER names the peer's runner (status 77 without it), PERI_SEED the seed; PERI_LONG adds shapes, some of which need a
tokenizer of PERIGEE_TEST_DATA.
"""
import argparse
import glob
import os
import shutil
import sys
import tempfile

from compare import Distance, call, is_long, our_logits, peer, peer_logits, random_tokens, seed

LENGTHS = (1, 7, 64, 300)
CHUNKS = (512, 32, 1)
SHAPES = [("smollm2-135m", 2, "linear"), ("smollm2-135m", 2, "yarn")]
LONG_SHAPES = [("qwen3-0.6b", 2, None), ("gemma3-1b", 7, None), ("llama3.2-1b", 2, None)] + [
    (preset, layers, rope) for rope in ("linear", "yarn") for preset, layers in (
        ("qwen2.5-0.5b", 2), ("qwen3-0.6b", 2), ("llama3.2-1b", 2), ("qwen3moe-small", 2), ("gemma3-1b", 2), ("phi3-mini", 2))]
TOKENIZERS = {"phi3-mini": "phi-3.gguf"}     # the peer does not load these shapes with a made-up vocabulary


def n_vocab_of(perigee, model, tmp):
    """The width of one row."""
    return len(our_logits(perigee, model, [0], os.path.join(tmp, "width.bin")))


def make_archs(folder, names):
    call([peer(), "test-llama-archs", "-o", folder, "-a", "^(" + "|".join(names) + ")$", "-s", str(seed())])
    found = sorted(glob.glob(os.path.join(folder, "*.gguf")))
    for name in names:
        if not any(os.path.basename(f).startswith(name + "-") for f in found):
            raise RuntimeError(f"the peer wrote no file of architecture {name}")
    return found


def make_shapes(folder):
    source = os.path.join(os.path.dirname(os.path.realpath(peer())), "make_model.py")
    if not os.path.exists(source):
        print("no make_model.py beside the peer's runner: no shapes")
        return
    script = shutil.copy(source, folder)    # the peer sees the folder of temporary files
    for preset, layers, rope in SHAPES + (LONG_SHAPES if is_long() else []):
        tokenizer = TOKENIZERS.get(preset)
        if tokenizer:
            found = os.path.join(os.environ.get("PERIGEE_TEST_DATA", ""), "tokenizers", tokenizer)
            if not os.path.exists(found):
                print(f"{preset}-{rope}: skipped, PERIGEE_TEST_DATA has no tokenizers/{tokenizer}")
                continue
            tokenizer = shutil.copy(found, folder)
        out = os.path.join(folder, f"{preset}-{rope or 'plain'}.gguf")
        call([peer(), "python3", script, preset, out, "--layers", str(layers), "--type", "f32", "--seed", str(seed()),
              *(["--rope", rope] if rope else []), *(["--tokenizer", tokenizer] if tokenizer else [])])
        yield out
        os.unlink(out)


def check(perigee, model, tmp):
    """(distance, same bytes?, rows) of a file."""
    d, same = Distance(), True
    n_vocab = n_vocab_of(perigee, model, tmp)
    for n in LENGTHS:
        tokens = random_tokens(os.path.basename(model), n, n_vocab)
        theirs = peer_logits(model, tokens, os.path.join(tmp, "peer.bin"))
        first = None
        for chunk in CHUNKS:
            ours = our_logits(perigee, model, tokens, os.path.join(tmp, "ours.bin"), "--chunk", str(chunk))
            if first is None:
                first = ours
                d.add(ours, theirs, n)
            elif ours.tobytes() != first.tobytes():
                same = False
                d.add(ours, theirs, n)
    return d, same


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--perigee", required=True)
    p.add_argument("--arch-dir", required=True)
    p.add_argument("--no-shapes", action="store_true")
    p.add_argument("models", nargs="*")
    a = p.parse_args()
    peer()
    names = sorted(os.path.basename(f)[:-4] for f in glob.glob(os.path.join(a.arch_dir, "*.lua")))
    print(f"seed {seed()}, {len(names)} architectures: {', '.join(names)}")
    print(f"{'file':36} {'rows':>6} {'worst row':>10} {'mean':>10} {'best tokens':>12} {'chunks':>9}")
    bad = n = 0
    with tempfile.TemporaryDirectory() as tmp:
        archs = os.path.join(tmp, "archs")
        os.mkdir(archs)

        def files():
            yield from make_archs(archs, names)
            if not a.no_shapes:
                yield from make_shapes(tmp)
            yield from a.models

        for model in files():
            n += 1
            try:
                d, same = check(a.perigee, model, tmp)
            except RuntimeError as e:
                print(f"{os.path.basename(model):36} FAILED: {e}")
                bad += 1
                continue
            good = d.is_good() and same
            bad += not good
            print(f"{os.path.basename(model):36} {d.rows:6} {d.worst:10.2e} {d.mean():10.2e} "
                  f"{'same' if d.wrong == 0 else str(d.wrong) + ' wrong':>12} {'same' if same else 'DIFFER':>9}"
                  f"{'' if good else '  FAILED'}", flush=True)
    print(f"{n} files, {bad} failed")
    return 1 if bad or n == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
