-- SPDX-License-Identifier: MIT
-- Gemma 3 (text): norms around each block, head norms on q and k, windows on five of six.
local swa = pattern("attention.sliding_window_pattern", 6)
return {
  name = "gemma3",
  source = "Gemma Team 2025 (arXiv:2503.19786); config.json of gemma-3; GGUF keys gemma3.*",
  checked = "tests/peer/logits.py",
  scales = { "attn_q", "attn_k", "attn_v", "attn_output" },
  params = {
    base_swa = { "rope.freq_base_swa", 10000 },
    attn_scale = {
      "attention.scale",
      pick("block_count", { [62] = rsqrt(ratio("d_model", "n_head")) }, rsqrt "d_k"),
    },
    logit_cap = { "final_logit_softcapping", 0 },
  },
  embed = { scale = sqrt "d_model" },
  blocks = {
    attn = {
      kind = "gqa",
      qk_norm = "head",
      scale = "attn_scale",
      mask = swa("window", "full"),
      rope = {
        pairs = "neox",
        base = swa("base_swa", "rope_base"),
        scaling = swa("none", "key"),
      },
    },
    mlp = { kind = "gated", act = "gelu" },
  },
  layer = {
    { pre = "attn_norm", block = "attn", post = "post_attention_norm" },
    { pre = "ffn_norm", block = "mlp", post = "post_ffw_norm" },
  },
  head = { cap = "logit_cap" },
}
