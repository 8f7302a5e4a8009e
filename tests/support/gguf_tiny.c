/* SPDX-License-Identifier: MIT
 *
 * gguf_tiny.c - complete tiny models of each architecture, random and reproducible.
 *
 * Keys and tensors are those of a published file of the family, small: 2 layers, 4 heads over 2 KV
 * heads, vocabulary 300.  Width 64, or 256 for types whose blocks are longer than 32.  Matrices are
 * of the type asked for; norms, biases and the expert router are F32, as quantisers leave them.
 *
 * A value depends on (seed, tensor name, index) only.  Quantised blocks are random bytes whose
 * scales are set so that weights come out around 0.1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_writer.h"
#include "model/dtype.h"

enum { N_VOCAB = 300, N_EXPERT = 4, N_USED = 2 };

/* ---- random values --------------------------------------------------------------------------- */

uint64_t gw_random(uint64_t key, uint64_t counter) {
    uint64_t z = key + (counter + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t key_of(uint64_t seed, const char *name) {
    uint64_t key = gw_random(seed, 0);
    for (; *name != 0; name++)
        key = gw_random(key ^ (unsigned char)*name, 1);
    return key;
}

/* Mean 0, deviation 1: twelve 16-bit uniforms; exact in double. */
static double normal(uint64_t key, uint64_t i) {
    double sum = 0;
    for (uint64_t k = 0; k < 3; k++)
        for (uint64_t bits = gw_random(key, 3 * i + k), n = 0; n < 4; n++, bits >>= 16)
            sum += ((double)(bits & 0xffff) + 0.5) / 65536;
    return sum - 6;
}

static uint16_t f16_of(float v) { /* normal range only, truncated */
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    int32_t exponent = (int32_t)(bits >> 23 & 0xff) - 127 + 15;
    uint32_t sign = bits >> 16 & 0x8000;
    if (exponent <= 0) return (uint16_t)sign;
    return (uint16_t)(sign | (uint32_t)exponent << 10 | (bits >> 13 & 0x3ff));
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* Where a block holds its f16 scale, the size that makes weights about 0.1, and the second f16 (the
 * minimum) as a multiple of the first that centres them; -1 = none.  Source: the block layouts of
 * dtype.c's proof, fields in file order. */
// clang-format off
static const struct block_rule {
    uint32_t dtype; int scale_off; float scale; int min_off; float min;
} rules[] = {
    {PERI_DT_Q4_0, 0, 0.02f, -1, 0},      {PERI_DT_Q4_1, 0, 0.02f, 2, -7.5f},
    {PERI_DT_Q5_0, 0, 0.01f, -1, 0},      {PERI_DT_Q5_1, 0, 0.01f, 2, -15.5f},
    {PERI_DT_Q8_0, 0, 0.0014f, -1, 0},    {PERI_DT_Q8_1, 0, 0.0014f, 2, 0},
    {PERI_DT_Q2_K, 80, 0.012f, 82, 1.5f}, {PERI_DT_Q3_K, 108, 0.0023f, -1, 0},
    {PERI_DT_Q4_K, 0, 0.0004f, 2, 7.5f},  {PERI_DT_Q5_K, 0, 0.0003f, 2, 15.5f},
    {PERI_DT_Q6_K, 208, 0.00007f, -1, 0}, {PERI_DT_IQ2_XXS, 0, 0.002f, -1, 0},
    {PERI_DT_IQ2_XS, 0, 0.002f, -1, 0},   {PERI_DT_IQ2_S, 0, 0.002f, -1, 0},
    {PERI_DT_IQ3_XXS, 0, 0.0008f, -1, 0}, {PERI_DT_IQ3_S, 0, 0.0007f, -1, 0},
    {PERI_DT_IQ1_S, 0, 0.0125f, -1, 0},   {PERI_DT_IQ4_NL, 0, 0.0014f, -1, 0},
    {PERI_DT_IQ4_XS, 0, 0.00013f, -1, 0}, {PERI_DT_TQ1_0, 52, 0.12f, -1, 0},
    {PERI_DT_TQ2_0, 64, 0.12f, -1, 0},    {PERI_DT_Q1_0, 0, 0.1f, -1, 0},
    {PERI_DT_Q2_0, 0, 0.08f, -1, 0},
};
// clang-format on

/* Scales of the types that keep them elsewhere than in an f16. */
static void set_odd_scale(uint32_t dtype, unsigned char *block, float d) {
    uint16_t half = f16_of(d * 0.0125f);
    if (dtype == PERI_DT_MXFP4) block[0] = 122; /* E8M0: 2^-5 */
    if (dtype == PERI_DT_NVFP4)                 /* E4M3: 2^-5 and a random mantissa */
        for (int i = 0; i < 4; i++)
            block[i] = (unsigned char)(0x10 | (block[i] & 7));
    if (dtype == PERI_DT_IQ1_M) /* a nibble in the top of each of four words at 48 */
        for (int i = 0; i < 4; i++)
            block[49 + 2 * i] =
                (unsigned char)((block[49 + 2 * i] & 0x0f) | (half >> 4 * i & 0xf) << 4);
    if (dtype == PERI_DT_Q8_K) {
        float f = d * 0.0014f;
        memcpy(block, &f, sizeof f);
    }
}

static void fill_blocks(uint32_t dtype, unsigned char *p, uint64_t bytes, uint64_t key) {
    const peri_dtype_info *t = peri_dtype_get(dtype);
    const struct block_rule *rule = NULL;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (rules[i].dtype == dtype) rule = &rules[i];
    for (uint64_t i = 0; i < bytes; i++)
        p[i] = (unsigned char)gw_random(key, i);
    for (uint64_t i = 0; i < bytes / t->block_bytes; i++) {
        unsigned char *block = p + i * t->block_bytes;
        float jitter = 0.5f + (float)(gw_random(~key, i) % 1024) / 1024;
        if (rule == NULL) {
            set_odd_scale(dtype, block, jitter);
            continue;
        }
        uint16_t half = f16_of(rule->scale * jitter);
        memcpy(block + rule->scale_off, &half, 2);
        half = f16_of(rule->scale * jitter * rule->min);
        if (rule->min_off >= 0) memcpy(block + rule->min_off, &half, 2);
    }
}

/* n values of mean and deviation in the plain types; other types through fill_blocks. */
static void fill(uint32_t dtype, unsigned char *p, uint64_t n, double mean, uint64_t key) {
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < n; i++) {
        double d = mean + 0.1 * normal(key, i);
        float f = (float)d;
        uint32_t bits;
        uint16_t half = f16_of(f);
        memcpy(&bits, &f, sizeof bits);
        uint16_t top = (uint16_t)(bits >> 16);
        switch (dtype) {
        case PERI_DT_F32:
            memcpy(p + 4 * i, &f, 4);
            break;
        case PERI_DT_F64:
            memcpy(p + 8 * i, &d, 8);
            break;
        case PERI_DT_F16:
            memcpy(p + 2 * i, &half, 2);
            break;
        case PERI_DT_BF16:
            memcpy(p + 2 * i, &top, 2);
            break;
        default:
            peri_dtype_bytes(dtype, n, &bytes, NULL);
            fill_blocks(dtype, p, bytes, key);
            return;
        }
    }
}

/* ---- tensors --------------------------------------------------------------------------------- */

typedef struct tiny {
    peri_gguf_writer *w;
    const char *arch;
    uint32_t dtype, dtype_down; /* of matrices; of the last ones of a layer, 0: the same */
    uint64_t seed;
    int64_t n_layer, n_head, n_kv, d_model, d_head, d_ff, n_ctx;
    int is_gemma, is_moe, has_qk_norm;
} tiny;

static void tensor(const tiny *m, const char *name, uint32_t dtype, const int64_t *dim, int n_dim,
                   double mean) {
    uint64_t n = 1, bytes = 0;
    for (int i = 0; i < n_dim; i++)
        n *= (uint64_t)dim[i];
    if (peri_dtype_bytes(dtype, n, &bytes, NULL) != PERI_OK) abort();
    unsigned char *data = malloc(bytes);
    if (data == NULL) abort();
    fill(dtype, data, n, mean, key_of(m->seed, name));
    gw_tensor(m->w, name, dtype, dim, n_dim, data, bytes);
    free(data);
}

/* "blk.IL.SUFFIX", or SUFFIX alone for il < 0. */
static const char *layer_name(int il, const char *suffix) {
    static char name[64];
    if (il < 0) return suffix;
    snprintf(name, sizeof name, "blk.%d.%s", il, suffix);
    return name;
}

static void matrix(const tiny *m, int il, const char *suffix, int64_t rows, int64_t columns) {
    int is_other = m->dtype_down != 0 && il > 0 && strcmp(suffix, "ffn_down.weight") == 0;
    tensor(m, layer_name(il, suffix), is_other ? m->dtype_down : m->dtype,
           (int64_t[]){rows, columns}, 2, 0);
}

static void norm(const tiny *m, int il, const char *suffix, int64_t n) {
    tensor(m, layer_name(il, suffix), PERI_DT_F32, &n, 1, 1);
}

static void bias(const tiny *m, int il, const char *suffix, int64_t n) {
    tensor(m, layer_name(il, suffix), PERI_DT_F32, &n, 1, 0);
}

static void experts(const tiny *m, int il, const char *suffix, int64_t rows, int64_t columns) {
    tensor(m, layer_name(il, suffix), m->dtype, (int64_t[]){N_EXPERT, rows, columns}, 3, 0);
}

static void attention(const tiny *m, int il) {
    int64_t d_q = m->n_head * m->d_head, d_kv = m->n_kv * m->d_head;
    norm(m, il, "attn_norm.weight", m->d_model);
    if (strcmp(m->arch, "phi3") == 0) {
        matrix(m, il, "attn_qkv.weight", d_q + 2 * d_kv, m->d_model);
    } else {
        matrix(m, il, "attn_q.weight", d_q, m->d_model);
        matrix(m, il, "attn_k.weight", d_kv, m->d_model);
        matrix(m, il, "attn_v.weight", d_kv, m->d_model);
    }
    if (strcmp(m->arch, "qwen2") == 0) {
        bias(m, il, "attn_q.bias", d_q);
        bias(m, il, "attn_k.bias", d_kv);
        bias(m, il, "attn_v.bias", d_kv);
    }
    if (m->has_qk_norm) {
        norm(m, il, "attn_q_norm.weight", m->d_head);
        norm(m, il, "attn_k_norm.weight", m->d_head);
    }
    matrix(m, il, "attn_output.weight", m->d_model, d_q);
    if (m->is_gemma) norm(m, il, "post_attention_norm.weight", m->d_model);
}

static void feed_forward(const tiny *m, int il) {
    norm(m, il, "ffn_norm.weight", m->d_model);
    if (m->is_moe) {
        tensor(m, layer_name(il, "ffn_gate_inp.weight"), PERI_DT_F32,
               (int64_t[]){N_EXPERT, m->d_model}, 2, 0);
        experts(m, il, "ffn_gate_exps.weight", m->d_ff, m->d_model);
        experts(m, il, "ffn_up_exps.weight", m->d_ff, m->d_model);
        experts(m, il, "ffn_down_exps.weight", m->d_model, m->d_ff);
    } else if (strcmp(m->arch, "phi3") == 0) {
        matrix(m, il, "ffn_up.weight", 2 * m->d_ff, m->d_model);
        matrix(m, il, "ffn_down.weight", m->d_model, m->d_ff);
    } else {
        matrix(m, il, "ffn_gate.weight", m->d_ff, m->d_model);
        matrix(m, il, "ffn_up.weight", m->d_ff, m->d_model);
        matrix(m, il, "ffn_down.weight", m->d_model, m->d_ff);
    }
    if (m->is_gemma) norm(m, il, "post_ffw_norm.weight", m->d_model);
}

/* ---- keys ------------------------------------------------------------------------------------ */

static const char *arch_key(const tiny *m, const char *suffix) {
    static char key[96];
    snprintf(key, sizeof key, "%s.%s", m->arch, suffix);
    return key;
}

static void arch_u32(const tiny *m, const char *suffix, int64_t v) {
    gw_u32(m->w, arch_key(m, suffix), (uint32_t)v);
}

static void arch_f32(const tiny *m, const char *suffix, float v) {
    gw_f32(m->w, arch_key(m, suffix), v);
}

static void model_keys(const tiny *m) {
    const char *a = m->arch;
    gw_str(m->w, "general.architecture", a);
    gw_str(m->w, "general.type", "model");
    gw_str(m->w, "general.name", "Tiny random model");
    gw_u32(m->w, "general.quantization_version", 2);
    arch_u32(m, "block_count", m->n_layer);
    arch_u32(m, "context_length", m->n_ctx);
    arch_u32(m, "embedding_length", m->d_model);
    arch_u32(m, "feed_forward_length", m->d_ff);
    arch_u32(m, "attention.head_count", m->n_head);
    arch_u32(m, "attention.head_count_kv", m->n_kv);
    arch_f32(m, "attention.layer_norm_rms_epsilon", 1e-6f);
    if (strcmp(a, "gemma2") != 0) arch_f32(m, "rope.freq_base", m->is_gemma ? 1e6f : 1e4f);
    if (strcmp(a, "llama") == 0 || strcmp(a, "phi3") == 0)
        arch_u32(m, "rope.dimension_count", m->d_head);
    if (strcmp(a, "llama") == 0) arch_u32(m, "vocab_size", N_VOCAB);
    if (m->has_qk_norm || m->is_gemma) {
        arch_u32(m, "attention.key_length", m->d_head);
        arch_u32(m, "attention.value_length", m->d_head);
    }
    if (m->is_moe) {
        arch_u32(m, "expert_count", N_EXPERT);
        arch_u32(m, "expert_used_count", N_USED);
        arch_u32(m, "expert_feed_forward_length", m->d_ff);
    }
    if (strcmp(a, "phi3") == 0) arch_u32(m, "rope.scaling.original_context_length", m->n_ctx);
    if (strcmp(a, "phi3") == 0) arch_u32(m, "attention.sliding_window", 2047);
    if (m->is_gemma) arch_u32(m, "attention.sliding_window", 32);
    if (strcmp(a, "gemma2") == 0) {
        arch_f32(m, "attn_logit_softcapping", 50);
        arch_f32(m, "final_logit_softcapping", 30);
    }
}

/* GPT-2's alphabet: printable Latin-1 stands for itself, the rest for U+0100 upwards in order. */
static uint32_t code_point_of_byte(int byte) {
    uint32_t next = 256;
    for (int i = 0;; i++) {
        int is_plain = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
        if (i == byte) return is_plain ? (uint32_t)i : next;
        next += !is_plain;
    }
}

/* U+0120 is a space and U+010A a newline in that alphabet. */
#define SP "\xc4\xa0"
#define NL "\xc4\x8a"

static void tokenizer_keys(peri_gguf_writer *w) {
    static const char *const merges[] = {
        "t h", SP " th",  SP "th e", "i n",          "in g",   "a n",   "an d",  SP " and",
        "e r", "o n",     "r e",     "a t",          "e n",    "o r",   SP " a", SP " o",
        "o u", SP " w",   "i s",     "i t",          "e s",    SP " s", SP " c", "l l",
        "l o", "h e",     "he ll",   "hell o",       SP " in", "e d",   SP " b", "1 0",
        "2 0", NL " " NL, SP " " SP, SP SP " " SP SP};
    static const char *const special[] = {"<|endoftext|>", "<|begin|>", "<|im_start|>",
                                          "<|im_end|>",    "<|pad|>",   "<|unk|>",
                                          "<tool>",        "<|unused|>"};
    enum { N_MERGE = sizeof merges / sizeof merges[0], N_SPECIAL = 8, FIRST = 256 + N_MERGE };
    _Static_assert(FIRST + N_SPECIAL == N_VOCAB, "the vocabulary has 300 tokens");
    static char text[FIRST][16];
    const char *tokens[N_VOCAB];
    int32_t kinds[N_VOCAB]; /* 1 normal, 3 control, 4 user-defined, 5 unused */
    for (int i = 0; i < FIRST; i++) {
        uint32_t cp = i < 256 ? code_point_of_byte(i) : 0;
        if (i >= 256) {
            const char *gap = strchr(merges[i - 256], ' ');
            snprintf(text[i], sizeof text[i], "%.*s%s", (int)(gap - merges[i - 256]),
                     merges[i - 256], gap + 1);
        } else if (cp < 128) {
            snprintf(text[i], sizeof text[i], "%c", (int)cp);
        } else {
            snprintf(text[i], sizeof text[i], "%c%c", (int)(0xc0 | cp >> 6),
                     (int)(0x80 | (cp & 0x3f)));
        }
        tokens[i] = text[i];
        kinds[i] = 1;
    }
    for (int i = 0; i < N_SPECIAL; i++) {
        tokens[FIRST + i] = special[i];
        kinds[FIRST + i] = i < 6 ? 3 : i - 2;
    }
    gw_str(w, "tokenizer.ggml.model", "gpt2");
    gw_str(w, "tokenizer.ggml.pre", "default");
    gw_strs(w, "tokenizer.ggml.tokens", tokens, N_VOCAB);
    gw_i32s(w, "tokenizer.ggml.token_type", kinds, N_VOCAB);
    gw_strs(w, "tokenizer.ggml.merges", merges, N_MERGE);
    gw_u32(w, "tokenizer.ggml.bos_token_id", FIRST + 1);
    gw_u32(w, "tokenizer.ggml.eos_token_id", FIRST);
    gw_u32(w, "tokenizer.ggml.padding_token_id", FIRST + 4);
    gw_bool(w, "tokenizer.ggml.add_bos_token", 1);
    gw_str(w, "tokenizer.chat_template",
           "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
           "<|im_end|>\n{% endfor %}");
}

void gw_model(peri_gguf_writer *w, const char *arch, uint32_t dtype, uint64_t seed,
              const gw_shape *shape) {
    tiny m = {.w = w,
              .arch = arch,
              .dtype = dtype,
              .seed = seed,
              .n_layer = shape->n_layer,
              .n_head = shape->n_head,
              .n_kv = shape->n_kv,
              .d_model = shape->d_model,
              .d_head = shape->d_head,
              .d_ff = shape->d_ff,
              .n_ctx = shape->n_ctx,
              .dtype_down = shape->dtype_down};
    m.is_gemma = strncmp(arch, "gemma", 5) == 0;
    m.is_moe = strcmp(arch, "qwen3moe") == 0;
    m.has_qk_norm = strcmp(arch, "gemma3") == 0 || strncmp(arch, "qwen3", 5) == 0;
    model_keys(&m);
    tokenizer_keys(w);
    matrix(&m, -1, "token_embd.weight", N_VOCAB, m.d_model);
    for (int il = 0; il < m.n_layer; il++) {
        attention(&m, il);
        feed_forward(&m, il);
    }
    norm(&m, -1, "output_norm.weight", m.d_model);
    if (!m.is_gemma) matrix(&m, -1, "output.weight", N_VOCAB, m.d_model);
}

void gw_tiny_model(peri_gguf_writer *w, const char *arch, uint32_t dtype, uint64_t seed) {
    const peri_dtype_info *t = peri_dtype_get(dtype);
    if (t == NULL) abort();
    int is_wide = t->block_elements > 32;
    gw_shape shape = {.n_layer = 2, .n_head = 4, .n_kv = 2, .n_ctx = 512};
    shape.d_model = is_wide ? 256 : 64;
    shape.d_head = shape.d_model / shape.n_head;
    shape.d_ff = is_wide ? 256 : 96;
    gw_model(w, arch, dtype, seed, &shape);
}
