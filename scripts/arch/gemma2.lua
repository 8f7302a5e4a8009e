-- SPDX-License-Identifier: MIT
-- Gemma 2: norms before and after each block, soft caps, every other layer sees a window.
local swa = pattern("attention.sliding_window_pattern", 2)
return {
  name = "gemma2",
  source = "Gemma Team 2024 (arXiv:2408.00118); config.json of gemma-2; GGUF keys gemma2.*",
  checked = "tests/peer/logits.py",
  scales = { "attn_q", "attn_k", "attn_v", "attn_output" },
  params = {
    window = { "attention.sliding_window", 4096 },
    attn_cap = { "attn_logit_softcapping", 50 },
    logit_cap = { "final_logit_softcapping", 30 },
    attn_scale = pick("block_count", { [46] = rsqrt(ratio("d_model", "n_head")) }, rsqrt "d_k"),
  },
  embed = { scale = sqrt "d_model" },
  blocks = {
    attn = {
      kind = "gqa",
      scale = "attn_scale",
      cap = "attn_cap",
      mask = swa("window", "full"),
      rope = { pairs = "neox" },
    },
    mlp = { kind = "gated", act = "gelu" },
  },
  layer = {
    { pre = "attn_norm", block = "attn", post = "post_attention_norm" },
    { pre = "ffn_norm", block = "mlp", post = "post_ffw_norm" },
  },
  head = { cap = "logit_cap" },
}
