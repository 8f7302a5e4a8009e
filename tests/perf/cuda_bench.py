#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""cuda_bench.py - all that is to be known of one CUDA device, by one command in at most ten minutes, offline.

    cmake --build build/release && tests/perf/cuda_bench.py

Stages, in this order; each has a limit, and what does not fit in the time is listed, not dropped in silence:
  machine    what nvidia-smi says; the device as perigee sees it
  ceilings   cuda_ceiling: reading, copying, writing from the host, from kernel to kernel with and without a graph
  check      perigee plugin-check of the plugin: every operation and type against the reference
  same       toy models: equal bits with graphs and without, in pieces and beside others, and where kernels begin early and
             not; against the CPU's reference, with activations as they are (each token 1e-6) and of 8 bits (the median 2e-3)
  sanitizer  compute-sanitizer's tools over a toy model, where the tool is installed
  kernels    perigee plugin-check --bench: each operation and type, as a fraction of what was read at best
  models     published shapes with made-up weights (cuda_shapes.py): perigee bench over batches and contexts, graphs too off once

Prints a table at the end and writes one JSON document (--out). Every speed stands beside the fraction of the read
bandwidth measured in the same run: of the bytes that a step has to read, each once. Weights are random, so experts are
chosen evenly, which real ones are not. Without a usable device: says why, lists what was skipped, exit status 0.
Exit status: 0 measured or skipped, 1 a check failed (its text is in the document), 2 wrong usage.
"""
import argparse
import array
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import cuda_shapes as shapes

HERE = os.path.dirname(os.path.abspath(__file__))
STAGES = ("machine", "ceilings", "check", "same", "sanitizer", "kernels", "models")
LIMIT = {"machine": 20, "ceilings": 30, "check": 180, "same": 40, "sanitizer": 60, "kernels": 75}  # s; models: the rest
RESERVE = 10  # s, for the report
TOKENS = [str(7 * i * i % 250) for i in range(70)]  # more than a block of keys


class Skip(Exception):
    """Not done, and why."""


class Failed(Exception):
    """Done, and wrong."""


def last_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:400] if lines else "no output"


class Bench:
    def __init__(self, o):
        self.o, self.start = o, time.monotonic()
        self.report = {"skipped": [], "failed": [], "seconds": {}}
        self.read_gbps, self.folder, self.deadline = None, tempfile.mkdtemp(prefix="cuda_bench.", dir=o.dir), 0
        self.patience = 6 if o.tiny else 1  # a processor stands for the device then, and other tests may run beside it

    def left(self):
        return self.patience * self.o.minutes * 60 - RESERVE - (time.monotonic() - self.start)

    def skip(self, what, why):
        self.report["skipped"].append({"what": what, "why": why})
        print(f"skipped: {what}: {why}", file=sys.stderr)

    def run(self, command, limit, expected=(0,), env=None):
        """What the command printed; Skip when it is not done in time, Failed when it ends otherwise than expected."""
        limit = min(limit, self.deadline - time.monotonic())
        name = " ".join(os.path.basename(c) if i == 0 else c for i, c in enumerate(command[:4]))
        if limit <= 0:
            raise Skip("no time was left")
        p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             errors="replace", start_new_session=True, env={**os.environ, **(env or {})})
        try:
            out, err = p.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            p.communicate()
            raise Skip(f"{name}: not done in {limit:.0f} s") from None
        if p.returncode not in expected:
            raise Failed(f"{name}: exit status {p.returncode}: {last_line(err or out)}")
        return out

    def perigee(self, arguments, limit, **more):
        return self.run([self.o.perigee, *arguments], limit, **more)

    def stage(self, name, action):
        begin = time.monotonic()
        limit = min(self.patience * LIMIT[name] if name in LIMIT else self.left(), self.left())
        self.deadline = begin + limit
        print(f"{time.monotonic() - self.start:6.1f} s  {name}", file=sys.stderr, flush=True)
        try:
            if limit <= 0:
                raise Skip("no time was left")
            self.report[name] = action()
        except Skip as e:
            self.skip(name, str(e))
        except Failed as e:
            self.report["failed"].append({"what": name, "why": str(e)})
            print(f"FAILED: {name}: {e}", file=sys.stderr)
        self.report["seconds"][name] = round(time.monotonic() - begin, 1)

    # ---- stages

    def machine(self):
        found = {"processors": os.cpu_count()}
        smi = shutil.which("nvidia-smi")
        if smi:
            fields = "name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit,mig.mode.current"
            found["nvidia_smi"] = self.run([smi, "--query-gpu=" + fields, "--format=csv,noheader"], 15).strip().splitlines()
        else:
            self.skip("nvidia-smi", "not installed")
        j = json.loads(self.perigee(["devices", "--json"], 15))
        found["device"] = next((d for d in j["devices"] if d["name"] == self.o.device and d["is_usable"]), None)
        found["plugin"] = next((p for p in j["plugins"] if p["name"] == "cuda"), None)
        if not found["device"]:
            why = found["plugin"]["reason"] if found["plugin"] else "there is no plugin cuda"
            raise Skip(f"no device {self.o.device}: {why or 'it is not among those that perigee devices lists'}")
        return found

    def ceilings(self):
        if not os.path.exists(self.o.ceiling):
            raise Skip(f"{self.o.ceiling} is not built (no nvcc)")
        index = self.report["machine"]["device"]["index"]
        size = ["-m", "64", "-l", "50", "-r", "1"] if self.o.tiny else []
        j = json.loads(self.run([self.o.ceiling, "-i", str(index), *size], 30, expected=(0, 77)))
        if "skipped" in j:
            raise Skip(j["skipped"])
        self.read_gbps = j["read_gbps"]
        return j

    def check(self):
        some, found = ["--op", "ADD"] if self.o.tiny else [], {}
        for stages in (("load", "describe", "supports", "ops", "model"), ("invariance",)):
            only = [w for s in stages for w in ("--only", s)]
            left = str(max(1, int(self.deadline - time.monotonic())))
            try:
                j = json.loads(self.perigee(["plugin-check", self.report["machine"]["plugin"]["path"], "--json", "--timeout", left,
                                             "--index", str(self.report["machine"]["device"]["index"]), *only, *some], 600,
                                            expected=(0, 1)))
            except Skip as e:
                self.skip("check: " + ", ".join(stages), str(e))
                continue
            if not j["passed"]:
                bad = [f for s in j["stages"] for f in s.get("findings", [])]
                raise Failed(f"{j['findings']} findings, the first: {json.dumps(bad[:1])}")
            found.update({s["name"]: s.get("checks") for s in j["stages"] if s["state"] == "passed"})
        if not found:
            raise Skip("nothing was done in time")
        return found

    def logits(self, model, name, *more, env=None):
        out, tokens = os.path.join(self.folder, name), TOKENS[:12] if self.o.tiny else TOKENS
        self.perigee(["logits", "-m", model, "--tokens", ",".join(tokens), "-o", out, "--kv", "f16", *more], 40, env=env)
        with open(out, "rb") as f:
            return f.read()

    def errors(self, logits, truth):
        """Squared error of the logits of each token, relative."""
        a, b = array.array("f", logits), array.array("f", truth)
        n = len(b) // (len(TOKENS[:12]) if self.o.tiny else len(TOKENS))
        pairs = (zip(a[i:i + n], b[i:i + n]) for i in range(0, len(b), n))
        return [sum((x - y) ** 2 for x, y in p) / sum(y * y for y in b[i * n:i * n + n]) for i, p in enumerate(pairs)]

    def same(self):
        found, late = {}, ["--set", "cuda.pdl=0"]
        for toy in ("toy-dense", "toy-experts"):
            model, device = os.path.join(self.folder, toy + ".gguf"), ["--device", self.o.device]
            shapes.write(toy, model, "Q4_K_M")
            plain = self.logits(model, "plain", *device, "--set", "cuda.graphs=0", "--set", "cuda.together=0", *late)
            for what, how in (("in pieces, as graphs", ["--chunk", "5"]), ("one by one", ["--chunk", "1"]),
                              ("none begun early", ["--chunk", "5", *late]),
                              ("by tiles of 8 tokens", ["--set", "cuda.tile=8"]), ("by tiles of 32", ["--set", "cuda.tile=32"]),
                              ("beside another", ["--chunk", "9", "--batch", "2"])):
                if self.logits(model, "other", *device, *how) != plain:
                    raise Failed(f"{toy}, {what}: other bits than at once, kernel by kernel")
            truth = self.logits(model, "truth", "--device", "cpu", env={"PERIGEE_CPU_ISA": "reference"})
            exact, found[toy] = self.logits(model, "exact", *device, "--set", "cuda.act=f32"), {}
            # with 8 bits another expert is chosen where two are nearly as good, and that token's error is of another kind
            for form, logits, of_tokens, most in (("f32", exact, max, 1e-6), ("q8", plain, statistics.median, 2e-3)):
                error = of_tokens(self.errors(logits, truth))
                if not error <= most:
                    raise Failed(f"{toy}, activations {form}: squared error {error:.3g} of the CPU's reference, at most {most}")
                found[toy][form] = error
            os.unlink(model)
        return found

    def sanitizer(self):
        tool = shutil.which("compute-sanitizer", path=os.environ.get("PATH", "") + ":/usr/local/cuda/bin")
        if not tool:
            raise Skip("compute-sanitizer is not installed")
        model, found = os.path.join(self.folder, "toy.gguf"), []
        shapes.write("toy-experts", model, "Q4_K_M")
        for name in ("memcheck", "racecheck", "synccheck"):
            try:
                self.run([tool, "--tool", name, "--print-limit", "5", "--error-exitcode", "9", self.o.perigee, "logits", "-m", model, "--tokens", "1,2,3,4,5,6",
                          "-o", os.path.join(self.folder, "unused"), "--device", self.o.device, "--chunk", "2"], 30)
                found.append(name)
            except Skip as e:
                self.skip(name, str(e))
        return found

    def kernels(self):
        seconds = 20 if self.o.tiny else max(5, self.deadline - time.monotonic() - 15)
        some = ["--op", "NORM"] if self.o.tiny else []
        j = json.loads(self.perigee(["plugin-check", self.report["machine"]["plugin"]["path"], "--json", "--bench", "--seconds",
                                     f"{seconds:.0f}", "--index", str(self.report["machine"]["device"]["index"]), *some], 600))
        rows = j["bench"]["rows"]
        for row in rows:
            row["read_fraction"] = row["gbps"] / self.read_gbps if self.read_gbps else None
        for late in j["bench"].get("unmeasured", []):
            self.skip(f"kernel {late['op']} {late['type']}", "no time was left")
        return rows

    # ---- models

    def configurations(self):
        """(model, types, batch, depth, graphs), the more telling first: short contexts, few sequences, then the rest."""
        o = self.o
        every = [(m, t, b, d) for d in o.depths for t in o.types for b in o.batches for m in o.models]
        first = [(m, o.types[0], o.batches[0], o.depths[0]) for m in o.models]
        return [c + (True,) for c in first] + [first[0] + (False,)] + [c + (True,) for c in every if c not in first]

    def model_file(self, name, types, made):
        path = os.path.join(self.folder, f"{name}.{types}.gguf")
        size, disk = shapes.file_bytes(shapes.SHAPES[name], types), shutil.disk_usage(self.folder)
        if (name, types) in made:
            return path
        if size * 1.1 + (1 << 30) > disk.free:
            raise Skip(f"{self.o.dir} has {disk.free >> 20} MiB left, the file takes {size >> 20}")
        begin = time.monotonic()
        shapes.write(name, path, types)
        made[name, types] = round(time.monotonic() - begin, 2)
        return path

    def measure(self, name, types, batch, depth, graphs, made, speed):
        s, total = shapes.SHAPES[name], self.report["machine"]["device"]["mem_total"]
        prompt, number, rounds = (4, 2, 1) if self.o.tiny else (512, 64, 3) if depth <= 128 and batch == 1 else (0, 16, 1)
        need = shapes.file_bytes(s, types) + shapes.kv_bytes(s, batch, depth + max(prompt, number + 1))
        if need > 0.95 * total:
            raise Skip(f"weights, keys and values take {need >> 20} of {total >> 20} MiB")
        wait = batch * depth * (rounds + 1) / speed[name, types] if (name, types) in speed else 0
        if wait > self.deadline - time.monotonic():
            raise Skip(f"the context alone would take {wait:.0f} s")
        path = self.model_file(name, types, made)
        j = json.loads(self.perigee(["bench", "-m", path, "-p", str(prompt), "-n", str(number), "-b", str(batch), "-d", str(depth), "-r",
                                     str(rounds), "--device", self.o.device, "--seed", "1", "--json", "--set",
                                     f"cuda.graphs={int(graphs)}"], 150))
        if j["cached_tokens"] or j["device"] != self.o.device:
            raise Failed(f"{name}: {j['cached_tokens']} tokens from a cache, on {j['device']}")
        weights, kv = shapes.step_bytes(s, types, batch, depth + 1 + (number + 1) / 2)
        rate = statistics.median(j["tg_tps"])
        row = {"model": name, "types": types, "batch": batch, "depth": depth, "graphs": graphs, "tg_tps": rate, "tg_all": j["tg_tps"],
               "step_ms": 1e3 * batch / rate, "step_bytes": int(weights + kv), "kv_bytes": int(kv), "load_ms": j["load_ms"],
               "read_fraction": rate / batch * (weights + kv) / 1e9 / self.read_gbps if self.read_gbps else None}
        if j["pp_tps"]:
            row["pp_tps"] = speed[name, types] = statistics.median(j["pp_tps"])
            # a prompt reads its weights once at least; this is how far it is from being bound by that
            row["pp_read_fraction"] = row["pp_tps"] / prompt * shapes.step_bytes(s, types, prompt, 0)[0] / 1e9 / self.read_gbps \
                if self.read_gbps else None
        return row

    def models(self):
        rows, made, speed = [], {}, {}
        for name, types, batch, depth, graphs in self.configurations():
            what = f"{name} {types}, {batch} sequences, {depth} tokens held" + ("" if graphs else ", without graphs")
            try:
                rows.append(self.measure(name, types, batch, depth, graphs, made, speed))
            except Skip as e:
                self.skip(what, str(e))
            except Failed as e:
                self.report["failed"].append({"what": what, "why": str(e)})
        return {"rows": rows, "write_s": {f"{m} {t}": s for (m, t), s in made.items()}}

    # ---- all

    def all(self):
        for i, name in enumerate(STAGES):
            if i and "machine" not in self.report:
                self.skip(name, "no usable device")
            else:
                self.stage(name, getattr(self, name))
        self.report["total_s"] = round(time.monotonic() - self.start, 1)
        return self.report


def percent(fraction):
    return "" if fraction is None else f"{100 * fraction:5.1f} %"


def table(r):
    if "ceilings" in r:
        c = r["ceilings"]
        print(f"{c['device']} ({c['isa']}): reads {c['read_gbps']:.0f} GB/s, copies {c['copy_gbps']:.0f}, from the host "
              f"{c['write_gbps']:.1f}; kernel to kernel {c['launch_us']:.2f} us, in a graph {c['graph_us']:.2f}, with waiting {c['sync_us']:.2f}")
    for k in r.get("kernels", []):
        print(f"{k['op']:<15} {k['type']:<8} {k['shape']:<44} {k['us']:>10.1f} us {k['gbps']:>8.1f} GB/s {percent(k['read_fraction'])}")
    for m in r.get("models", {}).get("rows", []):
        prompt = f"  prompt {m['pp_tps']:.0f} {percent(m['pp_read_fraction'])}" if "pp_tps" in m else ""
        print(f"{m['model']:<14} {m['types']:<7} {m['batch']:>3} x {m['depth']:<6}{'' if m['graphs'] else ' no graphs'} {m['tg_tps']:>9.1f} "
              f"tokens/s {percent(m['read_fraction'])} {m['step_ms']:>8.2f} ms a step{prompt}")
    print(f"{len(r['skipped'])} skipped, {len(r['failed'])} failed, {r['total_s']} s")
    for what in r["failed"]:
        print(f"failed: {what['what']}: {what['why']}")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default=os.path.join(HERE, "..", "..", "build", "release"), help="the build's folder; default build/release")
    p.add_argument("--perigee", help="the program; default BUILD/bin/perigee")
    p.add_argument("--ceiling", help="the program of the ceilings; default BUILD/tests/cuda_ceiling")
    p.add_argument("--device", default="cuda:0")
    p.add_argument("--minutes", type=float, default=10, help="for everything; default 10, six times as many with --tiny")
    p.add_argument("--out", default="cuda_bench.json")
    p.add_argument("--dir", help="where model files lie meanwhile; default /dev/shm")
    p.add_argument("--models", help="comma-separated, of " + ", ".join(shapes.SHAPES))
    p.add_argument("--types", default="Q4_K_M,Q8_0,BF16", help="default Q4_K_M,Q8_0,BF16")
    p.add_argument("--batches", default="1,8,32,256", help="default 1,8,32,256")
    p.add_argument("--depths", default="128,8192,32768", help="tokens held; default 128,8192,32768")
    p.add_argument("--tiny", action="store_true", help="toy shapes, and little of everything: does the script itself work? in six times the time")
    o = p.parse_args()
    if o.tiny:
        o.models, o.types, o.batches, o.depths = o.models or "toy-dense,toy-experts", "Q4_K_M", "1,2", "8"
    o.models = (o.models or "llama-3.1-8b,qwen3-30b-a3b,qwen3-0.6b,qwen3-8b").split(",")
    for name in o.models:
        if name not in shapes.SHAPES:
            p.error(f"no model '{name}': {', '.join(shapes.SHAPES)}")
    o.types = o.types.split(",")
    for t in o.types:
        if t != "Q4_K_M" and t not in shapes.TYPES:
            p.error(f"no type '{t}': Q4_K_M, {', '.join(shapes.TYPES)}")
    try:
        o.batches, o.depths = [int(b) for b in o.batches.split(",")], [int(d) for d in o.depths.split(",")]
    except ValueError as e:
        p.error(str(e))
    o.perigee = o.perigee or os.path.join(o.build, "bin", "perigee")
    o.ceiling = o.ceiling or os.path.join(o.build, "tests", "cuda_ceiling")
    o.dir = o.dir or ("/dev/shm" if os.path.isdir("/dev/shm") else None)
    if not os.access(o.perigee, os.X_OK):
        p.error(f"no {o.perigee}: build the preset release, or give --perigee")
    return o


def main():
    o = arguments()
    bench = Bench(o)
    try:
        report = bench.all()
    finally:
        shutil.rmtree(bench.folder, ignore_errors=True)
    with open(o.out, "w", encoding="utf-8") as f:
        json.dump(report, f, indent=1)
        f.write("\n")
    table(report)
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
