#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""cuda_lint.py FOLDER [--write] - what nvcc made of the kernels, read from the cubins it left in FOLDER.

Fails when a kernel has a stack frame, an instruction that reads or writes local memory (LDL, STL: a spill, or an array
indexed at run time), more than 8 registers above plugins/cuda/budget.txt, when kernels and table do not list each other,
or when a kernel lacks what it is there for: products with integers their dot product (IDP) or tile (IMMA) and copies that
run by themselves (LDGSTS), attention of few tokens such copies, and since compute capability 9.0 each kernel the wait
for the one before it (ACQBULK).
--write makes the table anew.

A cubin is an ELF file: the code of kernel K is section .text.K; .nv.info has records (format 4, 8 bytes: a symbol and a
number) of its frame in bytes (kind 0x11) and of its registers (kind 0x2f). An instruction has 16 bytes, its operation in
the low 12 bits. Found by compiling kernels of one instruction and of known frames, and by ptxas -v.
"""
import glob
import os
import re
import struct
import sys

SLACK = 8
LOCAL = {0x983: "LDL", 0x387: "STL"}
WORDS = {0x226: "IDP", 0x237: "IMMA", 0xfae: "LDGSTS", 0x82e: "ACQBULK"}
WANTED = {"peri_dot_": ("IDP", "LDGSTS"), "peri_mixed_": ("IDP", "LDGSTS"), "peri_few_": ("IMMA", "LDGSTS"), "peri_many_": ("IMMA", "LDGSTS"),
          "peri_attn_part_": ("LDGSTS",), "peri_attn_tile_part_": ("LDGSTS",)}
WAITS_FROM = 90
FRAME_SIZE, REGISTERS = 0x11, 0x2f
TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "plugins", "cuda", "budget.txt")
HEAD = """# Registers of each kernel, by target: a table made by .ci/cuda_lint.py --write, checked by .ci/cuda_lint.py.
"""


def sections(data):
    """(name, type, info, bytes) of each section of a little-endian 64-bit ELF file."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("no 64-bit little-endian ELF file")
    at, = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3a)
    heads = [struct.unpack_from("<IIQQQQIIQQ", data, at + i * size) for i in range(count)]
    text = heads[names][4]
    for h in heads:
        begin = text + h[0]
        yield data[begin:data.index(b"\0", begin)].decode(), h[1], h[7], data[h[4]:h[4] + h[5]] if h[1] != 8 else b""


def records(info):
    """(kind, symbol number, value) of the records about kernels in a .nv.info section."""
    at = 0
    while at + 4 <= len(info):
        form, kind, size = struct.unpack_from("<BBH", info, at)
        at += 4
        if form == 4:
            if kind in (FRAME_SIZE, REGISTERS):
                yield (kind, *struct.unpack_from("<II", info, at))
            at += size


def kernels_of(path):
    """{kernel: (registers, frame, [local instructions], {those of WORDS})} of a cubin."""
    with open(path, "rb") as f:
        parts = list(sections(f.read()))
    symbols = next(b for name, _, _, b in parts if name == ".symtab")
    texts = next(b for name, _, _, b in parts if name == ".strtab")
    said = {}
    for name, _, _, body in parts:
        if name != ".nv.info":
            continue
        for kind, symbol, value in records(body):
            begin, = struct.unpack_from("<I", symbols, symbol * 24)
            said[kind, texts[begin:texts.index(b"\0", begin)].decode()] = value
    found = {}
    for name, _, _, body in parts:
        if not name.startswith(".text."):
            continue
        words = [struct.unpack_from("<H", body, i)[0] & 0xfff for i in range(0, len(body), 16)]
        kernel = name[6:]
        found[kernel] = (said.get((REGISTERS, kernel)), said.get((FRAME_SIZE, kernel)), [LOCAL[w] for w in words if w in LOCAL],
                         {WORDS[w] for w in words if w in WORDS})
    return found


def read_all(folder):
    """{target: {kernel: ..}} of all cubins."""
    every = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.cubin"))):
        target = re.search(r"\.(?:sm|compute)_(\w+)\.cubin$", path)  # nvcc names either
        if target:
            found, known = kernels_of(path), every.setdefault("sm_" + target.group(1), {})
            twice = sorted(set(found) & set(known))
            if twice:
                sys.exit(f"cuda lint: {path}: {twice[0]} is in another cubin for {target.group(1)}, too: is one of them old?")
            known.update(found)
    return every


def read_table():
    with open(TABLE, encoding="utf-8") as f:
        lines = [line.split() for line in f if line.strip() and not line.startswith("#")]
    return lines[0][1:], {line[0]: [int(v) for v in line[1:]] for line in lines[1:]}


def write_table(every):
    targets = sorted(every)
    names = sorted(set().union(*every.values()))
    width = max(len(n) for n in names)
    with open(TABLE, "w", encoding="utf-8") as f:
        f.write(HEAD + "kernel".ljust(width) + "".join(t.rjust(8) for t in targets) + "\n")
        for n in names:
            f.write(n.ljust(width) + "".join(str(every[t][n][0]).rjust(8) for t in targets) + "\n")


def check(every):
    targets, table = read_table()
    bad = []
    if sorted(every) != sorted(targets):
        bad.append(f"cubins for {sorted(every)}, the table has {targets}")
    for target, found in every.items():
        for name in sorted(set(found) ^ set(table)):
            bad.append(f"{target}: {name}: " + ("not in the table" if name in found else "in the table only"))
        waits = {"ACQBULK"} if int(re.sub(r"\D", "", target)) >= WAITS_FROM else set()
        for name, (registers, frame, local, words) in sorted(found.items()):
            wanted = waits.union(*(w for prefix, w in WANTED.items() if name.startswith(prefix)))
            if wanted - words:
                bad.append(f"{target}: {name}: no instruction {' or '.join(sorted(wanted - words))}")
            if frame is None or registers is None:
                bad.append(f"{target}: {name}: .nv.info does not say its frame and registers")
                continue
            if frame:
                bad.append(f"{target}: {name}: a stack frame of {frame} bytes, expected none")
            if local:
                bad.append(f"{target}: {name}: {len(local)} accesses to local memory ({local[0]}), expected none")
            limit = table[name][targets.index(target)] + SLACK if name in table and target in targets else 255
            if registers > limit:
                bad.append(f"{target}: {name}: {registers} registers, at most {limit}")
    print("\n".join(bad) + ("\n" if bad else "") +
          f"cuda lint: {sum(map(len, every.values()))} kernels for {' '.join(sorted(every))}, {len(bad)} findings")
    return 1 if bad else 0


def main():
    folders = [a for a in sys.argv[1:] if a != "--write"]
    if len(folders) != 1:
        sys.exit(__doc__.splitlines()[0])
    every = read_all(folders[0])
    if not every:
        sys.exit(f"cuda lint: no cubins in {folders[0]}")
    if "--write" in sys.argv:
        write_table(every)
    sys.exit(check(every))


if __name__ == "__main__":
    main()
