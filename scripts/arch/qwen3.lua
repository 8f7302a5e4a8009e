-- SPDX-License-Identifier: MIT
-- Qwen 3, dense: Llama with RMS norms on each query and key head, rotary pairs half a head apart.
return {
  name = "qwen3",
  parent = "llama",
  source = "Yang et al. 2025 (arXiv:2505.09388); config.json of Qwen3; GGUF keys qwen3.*",
  checked = "tests/peer/logits.py",
  unused = { "cls.*" }, -- a classification head
  params = { attn_scale = DROP },
  blocks = {
    attn = { qk_norm = "head", scale = rsqrt "d_k", rope = { pairs = "neox", factors = "none" } },
    moe = DROP,
  },
  layer = {
    { pre = "attn_norm", block = "attn" },
    { pre = "ffn_norm", block = "mlp" },
  },
}
