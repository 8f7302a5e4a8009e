/* SPDX-License-Identifier: MIT
 *
 * kit_shapes.c - the shapes on which operations are tried: a table, one row per shape.
 *
 * An operand is five characters and an optional `?` (may be absent): its kind, then its dimensions,
 * slowest first.
 *   a  input, f32      i  input, i32 ids     o  output, f32       n  output, i32 ids
 *   w  weight, of every type the kit decodes                      v  f32 vector
 *   p  pool, of every cache type
 * A dimension is 1, t (tokens), z (rows wanted), or a letter whose extent the second text gives; b
 * and c, blocks and tokens per block of a pool, follow from the sequences.  Where the last
 * dimension of a weight or a pool is no whole number of blocks, it is rounded up.
 *
 * Extents are awkward on purpose: prime, not multiples of any vector width, one element, one row.
 * `O` in the extents is the number of blocks in front that nobody uses, `P` the distance between
 * the first positions of the sequences, `X` (a power of two) what the activations are multiplied
 * by: functions whose pieces overflow are right near 0. */
#include <string.h>

#include "check/kit.h"
#include "model/dtype.h"

#include "base/compiler.h"

#define ATTR(type, ...) (&(const type){.size = sizeof(type), __VA_ARGS__}), sizeof(type)
#define NO_ATTR         NULL, 0
#define ATTN            "a1thk pbcgk pbcgv v111h? o1thv"
#define ROPE            "a1thd v111f? o1thd"
#define ROUTE           "a11te v111e? n11tk o11tk"
#define QKV_IN          "a11tn w11xn w11yn w11yn v111x? v111y? v111y? v1111? v1111? v1111?"
#define QKV             QKV_IN " o11tx o11ty o11ty"
#define LINEAR          "a11tn w11mn v111m? v1111? o11tm"

static const kit_shape shapes[] = {
    {PERI_OP_EMBED, "w11vn o11tn", "v50 n48", ATTR(peri_embed_attr, .scale = 1), 9, 0, false},
    {PERI_OP_EMBED, "v11vn o11tn", "v70001 n8", ATTR(peri_embed_attr, .scale = 1), 9, 0, false},
    {PERI_OP_EMBED, "w11vn o11tn", "v50 n33", ATTR(peri_embed_attr, .source = 1, .scale = 5.5f), 4,
     0, false},
    {PERI_OP_LINEAR, LINEAR, "n96 m37", ATTR(peri_linear_attr, .flags = 0), 33, 0, false},
    {PERI_OP_LINEAR, LINEAR, "n513 m5", ATTR(peri_linear_attr, .flags = PERI_LINEAR_SCALE_LAST), 3,
     0, false},
    {PERI_OP_LINEAR, LINEAR, "n2304 m3", ATTR(peri_linear_attr, .flags = 0), 11, 0, false},
    {PERI_OP_LINEAR, LINEAR, "n8448 m3", ATTR(peri_linear_attr, .flags = 0), 1, 0, false},
    {PERI_OP_LINEAR, LINEAR, "n1 m1", ATTR(peri_linear_attr, .flags = 0), 1, 0, false},
    {PERI_OP_LINEAR, LINEAR, "n32 m5", ATTR(peri_linear_attr, .flags = 0), 131, 0, false},
    {PERI_OP_LINEAR, LINEAR, "n32 m149", ATTR(peri_linear_attr, .flags = 0), 2, 0, false},
    {PERI_OP_LINEAR, "a11zn w11mn v111m? v1111? o11zm", "n32 m11",
     ATTR(peri_linear_attr, .flags = 0), 9, 0, false},
    {PERI_OP_NORM, "a11zn v111n? v111n? o11zn", "n67",
     ATTR(peri_norm_attr, .kind = PERI_NORM_RMS, .eps = 0.01f), 9, 0, false},
    {PERI_OP_NORM, "a11tn v111n? v111n? o11tn", "n67",
     ATTR(peri_norm_attr, .kind = PERI_NORM_RMS, .eps = 0.01f), 9, 0, false},
    {PERI_OP_NORM, "a11tn v111n? v111n? o11tn", "n300",
     ATTR(peri_norm_attr, .kind = PERI_NORM_LAYER, .eps = 0.02f), 5, 0, true},
    {PERI_OP_NORM, "a1thn v11hn? v11hn? o1thn", "h3 n20",
     ATTR(peri_norm_attr, .kind = PERI_NORM_RMS, .eps = 1e-6f), 7, 0, true},
    {PERI_OP_NORM, "a1thn v111n? v111n? o1thn", "h3 n17",
     ATTR(peri_norm_attr, .kind = PERI_NORM_L2, .eps = 1e-6f), 7, 0, false},
    {PERI_OP_NORM, "a11tn v111n? v111n? o11tn", "n4100",
     ATTR(peri_norm_attr, .kind = PERI_NORM_LAYER, .eps = 1e-5f), 3, 0, true},
    {PERI_OP_ROPE, ROPE, "h3 d20 f8 P900",
     ATTR(peri_rope_attr, .pairs = PERI_ROPE_NORM, .first = 2, .n_rot = 16, .base = 1e4f,
          .freq_scale = 1, .magnitude = 1),
     9, 0, false},
    {PERI_OP_ROPE, ROPE, "h2 d32 f16 P40",
     ATTR(peri_rope_attr, .pairs = PERI_ROPE_NEOX, .n_rot = 32, .base = 5e5f, .freq_scale = 0.25f,
          .ext = 1, .ramp_lo = 3, .ramp_hi = 9, .magnitude = 1.1f),
     7, 0, true},
    {PERI_OP_KV_APPEND, "a1tgk a1tgv pbcgk pbcgv", "g2 k20 v12 P37", NO_ATTR, 23, 16, false},
    {PERI_OP_ROPE, ROPE, "h1 d16 f8 P70000",
     ATTR(peri_rope_attr, .pairs = PERI_ROPE_NEOX, .n_rot = 16, .base = 1e4f, .freq_scale = 1,
          .magnitude = 1),
     3, 0, false},
    {PERI_OP_KV_APPEND, "a1tgk a1tgv pbcgk pbcgv", "g1 k3 v2 P5 O4096", NO_ATTR, 3, 16, false},
    {PERI_OP_KV_APPEND, "a1tgk a1tgv pbcgk pbcgv", "g1 k7 v7 P5", NO_ATTR, 3, 8, false},
    {PERI_OP_ATTN, ATTN, "h6 g2 k20 v12 P520", ATTR(peri_attn_attr, .scale = 0.25f), 12, 16, false},
    {PERI_OP_ATTN, ATTN, "h3 g3 k16 v16 P70",
     ATTR(peri_attn_attr, .scale = 0.3f, .cap = 5, .window = 19), 33, 32, false},
    {PERI_OP_ATTN, ATTN, "h5 g1 k8 v24 P70",
     ATTR(peri_attn_attr, .scale = 0.3f, .alibi_max = 8, .chunk = 32), 9, 16, false},
    {PERI_OP_ATTN, ATTN, "h4 g2 k16 v16 P30",
     ATTR(peri_attn_attr, .flags = PERI_ATTN_NOT_CAUSAL, .scale = 0.25f), 3, 64, false},
    {PERI_OP_ATTN, ATTN, "h4 g2 k8 v8 P40",
     ATTR(peri_attn_attr, .scale = 1.5f, .cap = 2, .alibi_max = 4, .window = 21), 5, 16, false},
    {PERI_OP_ATTN, ATTN, "h2 g1 k8 v8 P150",
     ATTR(peri_attn_attr, .scale = 0.4f, .cap = 7, .window = 270), 3, 32, false},
    {PERI_OP_ATTN, ATTN, "h2 g1 k8 v8 P3", ATTR(peri_attn_attr, .scale = 0.4f), 200, 16, false},
    {PERI_OP_ATTN, ATTN, "h2 g1 k192 v128 P9", ATTR(peri_attn_attr, .scale = 0.1f), 3, 16, false},
    {PERI_OP_ATTN, ATTN, "h2 g2 k3 v2 P5 O4096", ATTR(peri_attn_attr, .scale = 0.5f), 3, 16, false},
    {PERI_OP_ATTN, ATTN, "h2 g1 k16 v16 P20", ATTR(peri_attn_attr, .scale = 40), 5, 16, false},
#define ACT(kind, in_place) ACT_OF(kind, "n45", in_place)
#define ACT_OF(kind, extents, in_place)                                                            \
    {                                                                                              \
        PERI_OP_ACT, "a11tn o11tn", extents, ATTR(peri_act_attr, .act = (kind), .param = 3), 7, 0, \
            in_place                                                                               \
    }
    ACT(PERI_ACT_SILU, true),
    ACT(PERI_ACT_GELU, false),
    ACT(PERI_ACT_GELU_ERF, false),
    ACT(PERI_ACT_GELU_QUICK, false),
    ACT(PERI_ACT_RELU, false),
    ACT(PERI_ACT_RELU2, false),
    ACT(PERI_ACT_SIGMOID, false),
    ACT(PERI_ACT_TANH, false),
    ACT(PERI_ACT_SOFTPLUS, false),
    ACT(PERI_ACT_SOFTCAP, false),
    ACT_OF(PERI_ACT_SILU, "n45 X128", false),
    ACT_OF(PERI_ACT_GELU, "n45 X128", false),
    ACT_OF(PERI_ACT_GELU_ERF, "n45 X128", false),
    ACT_OF(PERI_ACT_GELU_QUICK, "n45 X128", false),
    ACT_OF(PERI_ACT_SIGMOID, "n45 X128", false),
    ACT_OF(PERI_ACT_SOFTPLUS, "n45 X128", true),
#undef ACT
#undef ACT_OF
    {PERI_OP_GLU, "a11tn a11tn o11tn", "n77", ATTR(peri_act_attr, .act = PERI_ACT_SILU), 9, 0,
     true},
    {PERI_OP_GLU, "a1tkn a1tkn o1tkn", "k2 n33", ATTR(peri_act_attr, .act = PERI_ACT_GELU), 5, 0,
     false},
    {PERI_OP_ADD, "a11tn a11tn o11tn", "n77", NO_ATTR, 9, 0, true},
    {PERI_OP_ADD, "a11tn v111n o11tn", "n61", NO_ATTR, 5, 0, false},
    {PERI_OP_MUL, "a11tn a11tn o11tn", "n77", NO_ATTR, 9, 0, false},
    {PERI_OP_MUL, "a11tn v111n o11tn", "n61", NO_ATTR, 5, 0, true},
    {PERI_OP_MUL, "a11tn v1111 o11tn", "n19", NO_ATTR, 5, 0, false},
    {PERI_OP_SCALE, "a11tn o11tn", "n51", ATTR(peri_scale_attr, .scale = -0.37f), 9, 0, true},
    {PERI_OP_ROUTE, ROUTE, "e13 k4",
     ATTR(peri_route_attr, .kind = PERI_ROUTE_SOFTMAX, .renorm = 1, .weight_scale = 1), 9, 0,
     false},
    {PERI_OP_ROUTE, ROUTE, "e16 k3",
     ATTR(peri_route_attr, .kind = PERI_ROUTE_SIGMOID, .renorm = 1, .n_group = 4, .n_group_used = 2,
          .weight_scale = 2.5f),
     9, 0, false},
    {PERI_OP_ROUTE, ROUTE, "e8 k2",
     ATTR(peri_route_attr, .kind = PERI_ROUTE_SOFTMAX_CHOSEN, .weight_scale = 1), 9, 0, false},
    {PERI_OP_ROUTE, ROUTE, "e131 k9",
     ATTR(peri_route_attr, .kind = PERI_ROUTE_SOFTMAX, .weight_scale = 1), 3, 0, false},
    {PERI_OP_LINEAR_EXPERTS, "a11tn w1emn i11tk v11em? v111e? o1tkm", "n32 m3 e67 k4", NO_ATTR, 9,
     0, false},
    {PERI_OP_LINEAR_EXPERTS, "a11tn w1emn i11tk v11em? v111e? o1tkm", "n64 m19 e5 k2", NO_ATTR, 9,
     0, false},
    {PERI_OP_LINEAR_EXPERTS, "a1tkn w1emn i11tk v11em? v111e? o1tkm", "n41 m7 e5 k3", NO_ATTR, 9, 0,
     false},
    {PERI_OP_EXPERT_SUM, "a1tkn a11tk o11tn", "k3 n47", NO_ATTR, 9, 0, false},
    {PERI_OP_ROWS, "a11tn o11zn", "n29", NO_ATTR, 9, 0, false},
    {PERI_OP_ADD_NORM, "a11tn a11tn v111n? v111n? o11tn o11tn", "n67",
     ATTR(peri_norm_attr, .kind = PERI_NORM_RMS, .eps = 1e-6f), 9, 0, true},
    {PERI_OP_ADD_NORM, "a11tn a11tn v111n? v111n? o11tn o11tn", "n4096",
     ATTR(peri_norm_attr, .kind = PERI_NORM_RMS, .eps = 1e-6f), 3, 0, true},
    {PERI_OP_ADD_NORM, "a11tn a11tn v111n? v111n? o11tn o11tn", "n16388",
     ATTR(peri_norm_attr, .kind = PERI_NORM_RMS, .eps = 1e-6f), 2, 0, false},
    {PERI_OP_LINEAR_QKV, QKV, "n96 x21 y9", NO_ATTR, 9, 0, false},
    {PERI_OP_GATE_UP_GLU, "a11tn w11mn w11mn o11tm", "n96 m23",
     ATTR(peri_act_attr, .act = PERI_ACT_SILU), 9, 0, false},
    {PERI_OP_GATE_UP_GLU, "a11tn w11mn w11mn o11tm", "n64 m5",
     ATTR(peri_act_attr, .act = PERI_ACT_SOFTCAP, .param = 0.75f), 2, 0, false},
    {PERI_OP_TOPK, "a11tv n11tk o11tk", "v1003 k40", NO_ATTR, 9, 0, false},
    {PERI_OP_TOPK, "a11tv n11tk o11tk", "v517 k256", NO_ATTR, 9, 0, false},
    {PERI_OP_TOPK, "a11tv n11tk o11tk", "v20011 k100", NO_ATTR, 5, 0, false},
    {PERI_OP_TOPK, "a11tv n11tk o11tk", "v150011 k256", NO_ATTR, 2, 0, false},
    {PERI_OP_TOPK, "a11tv n11tk o11tk", "v7 k7", NO_ATTR, 9, 0, false},
    {PERI_OP_TOPK, "a11tv n11tk o11tk", "v331 k1", NO_ATTR, 9, 0, false},
};

const kit_shape *kit_shape_at(size_t i) {
    return i < sizeof shapes / sizeof *shapes ? &shapes[i] : NULL;
}

/* Every weight type for shapes with a weight, cache types for those with a pool, else none. */
int kit_dtype_at(const kit_shape *s, size_t i) {
    static const int cache[] = {PERI_DT_F32, PERI_DT_F16, PERI_DT_BF16, PERI_DT_Q8_0, PERI_DT_Q4_0};
    static const int weight[] = {
#define PERI_DTYPE(NAME, number, name, elements, bytes) number,
#include "perigee/dtype.def"
#undef PERI_DTYPE
    };
    const int *list = strchr(s->operands, 'w') ? weight : cache;
    size_t n = strchr(s->operands, 'w')   ? sizeof weight / sizeof *weight
               : strchr(s->operands, 'p') ? sizeof cache / sizeof *cache
                                          : 1;
    return i < n ? list[i] : -1;
}
