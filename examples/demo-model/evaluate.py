#!/usr/bin/env python3
"""Measures the demo model on prompts it was not trained on, at temperature 0.

  python3 evaluate.py --split eval-values                       the GGUF file beside this script, run by torch
  python3 evaluate.py --split eval-phrasings --command '...'    any engine: the command gets the rendered prompt
                                                                on standard input and prints the completion

Each assistant message of a held-out conversation is one prompt, with the right messages before it. A call is right
when the names and the arguments of all calls equal the expected ones as JSON. An answer is right when it calls
nothing and contains the expected values.
"""
import argparse
import collections
import json
import os
import re
import subprocess
import sys

from generate import Generator
from template import HERE, Template


def prompts(split, seed, count):
    """(category, prompt, expected message) for `count` assistant messages."""
    template, out = Template(), []
    for c in Generator(split, seed).conversations(count):
        for i, m in enumerate(c["messages"]):
            if m["role"] == "assistant":
                out.append((m["category"], template.render(c["messages"][:i], c["tools"], True), m))
                if len(out) == count:
                    return out
    return out


def calls_of(text):
    """The calls in a completion, or None when they are no JSON."""
    out = []
    for body in re.findall(r"<tool_call>(.*?)(?:</tool_call>|$)", text, re.S):
        try:
            out.append(json.loads(body))
        except ValueError:
            return None
    return out


def holds(text, part):
    """Whether the text has the part, not as a piece of a longer word or number."""
    return re.search((r"(?<!\w)" if part[0].isalnum() else "") + re.escape(part) + (r"(?!\w)" if part[-1].isalnum() else ""), text) is not None


def right(text, message):
    if message.get("tool_calls"):
        want = [c["function"] for c in message["tool_calls"]]
        return json.dumps(calls_of(text), sort_keys=True) == json.dumps(want, sort_keys=True)
    return "<tool_call>" not in text and all(holds(text, part) for part in message["expect"])


def torch_engine(path, threads):
    """Completes prompts with a GGUF file of export.py in torch."""
    import torch
    from export import gguf_name
    from gguf import Reader
    from model import Model
    from tokenizer import Tokenizer
    torch.set_num_threads(threads)
    r = Reader(path)
    get = lambda key: r.metadata["llama." + key]
    model = Model({"vocab": get("vocab_size"), "width": get("embedding_length"), "layers": get("block_count"), "heads": get("attention.head_count"),
                   "kv_heads": get("attention.head_count_kv"), "ff": get("feed_forward_length"), "context": get("context_length"),
                   "rope_base": get("rope.freq_base"), "eps": get("attention.layer_norm_rms_epsilon")})
    model.load_state_dict({name: torch.from_numpy(r.tensors[gguf_name(name)].copy()) for name in model.state_dict()})
    model.eval()
    tokenizer = Tokenizer(m.split(" ") for m in r.metadata["tokenizer.ggml.merges"])
    assert tokenizer.tokens == r.metadata["tokenizer.ggml.tokens"]
    return lambda prompt: tokenizer.decode(model.complete(tokenizer.encode(prompt), tokenizer.end))


def command_engine(command):
    def complete(prompt):
        done = subprocess.run(command, shell=True, input=prompt, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.partition("<|end|>")[0].strip()
    return complete


def main():
    p = argparse.ArgumentParser(description="measure the demo model")
    p.add_argument("--split", choices=("eval-values", "eval-phrasings", "train"), default="eval-values")
    p.add_argument("--count", type=int, default=400)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--model", default=os.path.join(HERE, "perigee-demo.gguf"))
    p.add_argument("--command", help="complete prompts with this shell command instead of torch")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--wrong", type=int, default=0, help="show so many wrong completions")
    a = p.parse_args()
    complete = command_engine(a.command) if a.command else torch_engine(a.model, a.threads)
    groups, kinds, shown = collections.defaultdict(list), collections.defaultdict(list), 0
    for category, prompt, message in prompts(a.split, a.seed, a.count):
        text = complete(prompt)
        ok = right(text, message)
        groups[category].append(ok)
        kinds["calls" if message.get("tool_calls") else "answers"].append(ok)
        if not ok and shown < a.wrong:
            shown += 1
            want = message["content"] or [c["function"] for c in message["tool_calls"]]
            sys.stdout.write(f"--- {category}\n{prompt}\n  got:  {text}\n  want: {want if isinstance(want, str) else json.dumps(want)}\n")
    print(f"{a.split}, seed {a.seed}, temperature 0")
    for name, oks in [*sorted(groups.items()), *sorted(kinds.items()), ("all", sum(groups.values(), []))]:
        print(f"  {name:16} {sum(oks):4} of {len(oks):4}  {100 * sum(oks) / len(oks):5.1f} %")


if __name__ == "__main__":
    main()
