-- SPDX-License-Identifier: MIT
-- Llama 1-3, Mistral, Mixtral: RMS norms, adjacent rotary pairs, gated SiLU or experts.
return {
  name = "llama",
  source = "Touvron et al. 2023 (arXiv:2302.13971); config.json of meta-llama; GGUF keys llama.*",
  checked = "tests/peer/logits.py",
  params = { attn_scale = { "attention.scale", rsqrt "d_k" } },
  blocks = {
    attn = { kind = "gqa", scale = "attn_scale", rope = { pairs = "norm", factors = "auto" } },
    mlp = { kind = "gated", act = "silu" },
    moe = { kind = "moe", router = "softmax", renorm = true, act = "silu" },
  },
  layer = {
    { pre = "attn_norm", block = "attn" },
    { pre = "ffn_norm", block = has("ffn_gate_inp", "moe", "mlp") },
  },
}
