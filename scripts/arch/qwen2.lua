-- SPDX-License-Identifier: MIT
-- Qwen 2 and 2.5, dense: Llama with biases on q, k and v, and rotary pairs half a head apart.
return {
  name = "qwen2",
  parent = "llama",
  source = "Yang et al. 2024 (arXiv:2407.10671); config.json of Qwen2; GGUF keys qwen2.*",
  checked = "tests/peer/logits.py",
  scales = { "attn_q", "attn_k", "attn_v", "attn_output" },
  params = { attn_scale = DROP },
  blocks = {
    attn = { scale = rsqrt "d_k", rope = { pairs = "neox", factors = "none" } },
    moe = DROP,
  },
  layer = {
    { pre = "attn_norm", block = "attn" },
    { pre = "ffn_norm", block = "mlp" },
  },
}
