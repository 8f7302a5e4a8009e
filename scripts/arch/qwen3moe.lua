-- SPDX-License-Identifier: MIT
-- Qwen 3 mixture of experts: Qwen 3 attention, every feed-forward block a softmax mixture.
return {
  name = "qwen3moe",
  parent = "llama",
  source = "Yang et al. 2025 (arXiv:2505.09388); config.json of Qwen3 MoE; GGUF keys qwen3moe.*",
  checked = "tests/peer/logits.py",
  params = { attn_scale = DROP },
  blocks = {
    attn = { qk_norm = "head", scale = rsqrt "d_k", rope = { pairs = "neox", factors = "none" } },
    mlp = DROP,
  },
  layer = {
    { pre = "attn_norm", block = "attn" },
    { pre = "ffn_norm", block = "moe" },
  },
}
