-- SPDX-License-Identifier: MIT
-- Phi 3, 3.5 and 4-mini: fused q, k, v and gate, up; long and short rotary factors.
return {
  name = "phi3",
  parent = "llama",
  source = "Abdin et al. 2024 (arXiv:2404.14219); config.json of Phi-3; GGUF keys phi3.*",
  checked = "tests/peer/logits.py",
  scales = { "attn_q", "attn_k", "attn_v", "attn_output" },
  params = { attn_scale = DROP },
  blocks = {
    attn = { scale = rsqrt "d_k", rope = { pairs = "neox", factors = "long_short" } },
    mlp = { fused = true },
    moe = DROP,
  },
  layer = {
    { pre = "attn_norm", block = "attn" },
    { pre = "ffn_norm", block = "mlp" },
  },
}
