"""The demo model: a llama-architecture decoder in torch, for training and for checking what was trained."""
import torch
import torch.nn.functional as F
from torch import nn

CONFIG = {"vocab": 1280, "width": 256, "layers": 6, "heads": 4, "kv_heads": 2, "ff": 640, "context": 1024,
          "rope_base": 10000.0, "eps": 1e-5}


class Norm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return x * (x.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight


def rotate(x, turns):
    """Rotary positions on adjacent pairs, taken as complex numbers: x is [batch, time, heads, size]."""
    x = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(x * turns).flatten(-2)


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv_heads, self.size = c["heads"], c["kv_heads"], c["width"] // c["heads"]
        kv = self.kv_heads * self.size
        self.attn_norm = Norm(c["width"], c["eps"])
        self.attn_q = nn.Linear(c["width"], c["width"], bias=False)
        self.attn_k = nn.Linear(c["width"], kv, bias=False)
        self.attn_v = nn.Linear(c["width"], kv, bias=False)
        self.attn_output = nn.Linear(c["width"], c["width"], bias=False)
        self.ffn_norm = Norm(c["width"], c["eps"])
        self.ffn_gate = nn.Linear(c["width"], c["ff"], bias=False)
        self.ffn_up = nn.Linear(c["width"], c["ff"], bias=False)
        self.ffn_down = nn.Linear(c["ff"], c["width"], bias=False)

    def forward(self, x, turns, mask, cache):
        b, t, w = x.shape
        h = self.attn_norm(x)
        q = rotate(self.attn_q(h).view(b, t, self.heads, self.size), turns).transpose(1, 2)
        k = rotate(self.attn_k(h).view(b, t, self.kv_heads, self.size), turns).transpose(1, 2)
        v = self.attn_v(h).view(b, t, self.kv_heads, self.size).transpose(1, 2)
        if cache is not None:
            if cache:
                k, v = torch.cat((cache[0], k), 2), torch.cat((cache[1], v), 2)
            cache[:] = [k, v]
        group = self.heads // self.kv_heads
        # The query heads of one key head go into the rows of one product.
        q = q.reshape(b, self.kv_heads, group * t, self.size)
        s = torch.matmul(q * self.size ** -0.5, k.transpose(2, 3)).view(b, self.kv_heads, group, t, -1)
        if mask is not None:
            s += mask
        s = torch.softmax(s, -1).view(b, self.kv_heads, group * t, -1)
        y = torch.matmul(s, v).view(b, self.heads, t, self.size).transpose(1, 2).reshape(b, t, w)
        x = x + self.attn_output(y)
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Model(nn.Module):
    def __init__(self, c=CONFIG):
        super().__init__()
        self.config = dict(c)
        self.embedding = nn.Embedding(c["vocab"], c["width"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["layers"]))
        self.norm = Norm(c["width"], c["eps"])
        size = c["width"] // c["heads"]
        angle = torch.outer(torch.arange(c["context"]).float(), c["rope_base"] ** (-torch.arange(0, size, 2).float() / size))
        self.register_buffer("turns", torch.polar(torch.ones_like(angle), angle)[:, None, :], persistent=False)
        nn.init.normal_(self.embedding.weight, std=0.05)
        for name, p in self.named_parameters():
            if p.dim() == 2 and "embedding" not in name:
                nn.init.normal_(p, std=p.shape[1] ** -0.5 * (0.3 if "output" in name or "down" in name else 1.0))

    def hidden(self, ids, cache=None, start=0):
        t = ids.shape[1]
        x = self.embedding(ids)
        turns = self.turns[start:start + t]
        mask = None
        if t > 1:
            mask = torch.full((t, start + t), float("-inf")).triu(start + 1)
        for i, layer in enumerate(self.layers):
            x = layer(x, turns, mask, None if cache is None else cache[i])
        return self.norm(x)

    def logits(self, hidden):
        return F.linear(hidden, self.embedding.weight)

    @torch.no_grad()
    def complete(self, ids, end, limit=200):
        """The greedy continuation of a list of ids, without the end token."""
        cache = [[] for _ in self.layers]
        out, start, step = [], 0, torch.tensor([ids])
        while len(out) < limit and start + step.shape[1] < self.config["context"]:
            h = self.hidden(step, cache, start)
            start += step.shape[1]
            i = int(self.logits(h[:, -1]).argmax())
            if i == end:
                break
            out.append(i)
            step = torch.tensor([[i]])
        return out
