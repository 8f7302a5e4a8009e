"""The demo model: a llama-architecture decoder in torch, for training and for checking what was trained.

Training multiplies in bfloat16 and keeps everything between the products in single precision; completion is all in
single precision. Queries, keys and values are one product, gate and up another.
"""
import torch
import torch.nn.functional as F
from torch import nn

CONFIG = {"vocab": 1024, "width": 256, "layers": 6, "heads": 4, "kv_heads": 4, "ff": 640, "context": 1024,
          "rope_base": 10000.0, "eps": 1e-5}


class RootMeanSquare(torch.autograd.Function):
    """The norm of rows, in few passes over memory."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        n = x * r
        ctx.save_for_backward(n, r, weight)
        return n * weight

    @staticmethod
    def backward(ctx, g):
        n, r, weight = ctx.saved_tensors
        gn = g * n
        mean = torch.mv(gn, weight).div_(n.shape[-1])[:, None]
        return torch.addcmul(g * weight, n, mean, value=-1).mul_(r), gn.sum(0), None


class Attend(torch.autograd.Function):
    """Softmax over the past; scores and shares are halves. Query heads of one key head stand one after another."""

    @staticmethod
    def forward(ctx, s, mask):
        s = s.float()
        s.view(s.shape[0], -1, *mask.shape).add_(mask)
        p = torch.softmax(s, -1).bfloat16()
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx, g):
        p, = ctx.saved_tensors
        return torch._softmax_backward_data(g.float(), p.float(), -1, torch.float32).bfloat16(), None


class Gate(torch.autograd.Function):
    """silu(gate) * up, of both in one tensor of halves."""

    @staticmethod
    def forward(ctx, h):
        ctx.save_for_backward(h)
        gate, up = h.float().chunk(2, -1)
        return (F.silu(gate) * up).bfloat16()

    @staticmethod
    def backward(ctx, g):
        h, = ctx.saved_tensors
        gate, up = h.float().chunk(2, -1)
        g, s = g.float(), torch.sigmoid(gate)
        act = gate * s
        out = torch.empty_like(h)
        a, b = out.chunk(2, -1)
        a.copy_(torch.addcmul(s + act, act, s, value=-1).mul_(up).mul_(g))
        b.copy_(act.mul_(g))
        return out


def rotate(x, turns):
    """Rotary positions on adjacent pairs, taken as complex numbers: x is [batch, time, heads, size]."""
    x = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(x * turns).flatten(-2)


def causal(t, start=0):
    return torch.full((t, start + t), float("-inf")).triu(start + 1)


class Norm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return RootMeanSquare.apply(x, self.weight, self.eps)


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

    def shapes(self, rows, b, t):
        """Rows of queries, keys and values as [batch, time, heads, size]: queries with keys, and values."""
        both = (self.heads + self.kv_heads) * self.size
        return rows[:, :both].float().view(b, t, -1, self.size), rows[:, both:].reshape(b, t, self.kv_heads, self.size)

    def groups(self, x, b, t):
        """[batch, time, heads, size] as matrices, one for each batch and key head."""
        return x.transpose(1, 2).reshape(b * self.kv_heads, -1, self.size)

    def forward(self, x, b, t, turns, mask, rows=None):
        """x is [batch * time, width], of which only some rows may be wanted."""
        w = torch.cat((self.attn_q.weight * self.size ** -0.5, self.attn_k.weight, self.attn_v.weight)).bfloat16()
        qk, v = self.shapes(F.linear(self.attn_norm(x).bfloat16(), w), b, t)
        qk = rotate(qk, turns).bfloat16()
        q, k, v = (self.groups(y, b, t) for y in (qk[:, :, :self.heads], qk[:, :, self.heads:], v))
        p = Attend.apply(torch.bmm(q, k.transpose(1, 2)), mask)
        y = torch.bmm(p, v).view(b, self.heads, t, self.size).transpose(1, 2).reshape(b * t, -1)
        if rows is not None:
            x, y = x.index_select(0, rows), y.index_select(0, rows)
        x = x + F.linear(y, self.attn_output.weight.bfloat16())
        w = torch.cat((self.ffn_gate.weight, self.ffn_up.weight)).bfloat16()
        h = Gate.apply(F.linear(self.ffn_norm(x).bfloat16(), w))
        return x + F.linear(h, self.ffn_down.weight.bfloat16())

    def step(self, x, t, turns, mask, cache):
        """As forward for one sequence, in single precision, with the keys and values of what came before."""
        h = self.attn_norm(x)
        q = rotate(self.attn_q(h).view(1, t, self.heads, self.size), turns)
        k = rotate(self.attn_k(h).view(1, t, self.kv_heads, self.size), turns)
        q, k, v = (self.groups(y, 1, t) for y in (q, k, self.attn_v(h).view(1, t, self.kv_heads, self.size)))
        if cache:
            k, v = torch.cat((cache[0], k), 1), torch.cat((cache[1], v), 1)
        cache[:] = [k, v]
        s = torch.bmm(q * self.size ** -0.5, k.transpose(1, 2)).view(self.kv_heads, -1, *mask.shape) + mask
        p = torch.softmax(s, -1).view(self.kv_heads, -1, mask.shape[1])
        y = torch.bmm(p, v).view(self.heads, t, self.size).transpose(0, 1).reshape(t, -1)
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

    def forward(self, ids, rows):
        """The logits after those of the flattened ids whose numbers are in rows."""
        b, t = ids.shape
        x, turns, mask = self.embedding(ids.flatten()), self.turns[:t], causal(t)
        for layer in self.layers[:-1]:
            x = layer(x, b, t, turns, mask)
        x = self.layers[-1](x, b, t, turns, mask, rows)
        return F.linear(self.norm(x).bfloat16(), self.embedding.weight.bfloat16()).float()

    @torch.no_grad()
    def complete(self, ids, end, limit=200):
        """The greedy continuation of a list of ids, without the end token."""
        cache = [[] for _ in self.layers]
        out, start, step = [], 0, ids
        while len(out) < limit and start + len(step) < self.config["context"]:
            t = len(step)
            x = self.embedding(torch.tensor(step))
            for layer, c in zip(self.layers, cache):
                x = layer.step(x, t, self.turns[start:start + t], causal(t, start), c)
            start += t
            i = int(F.linear(self.norm(x[-1:]), self.embedding.weight).argmax())
            if i == end:
                break
            out.append(i)
            step = [i]
        return out
