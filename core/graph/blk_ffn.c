/* SPDX-License-Identifier: MIT
 *
 * blk_ffn.c - block kinds gated and moe.
 *   gated  y = down(act(gate x) * up x), a weight's .scale applied after its bias
 *   moe    y = sum over the chosen experts e of w_e down_e(act(gate_e x) * up_e x), a weight's
 * .scale before its bias */
#include "base/status.h"
#include "graph/build_int.h"
#include "model/dtype.h"

#include "base/compiler.h"

static peri_act_attr act_attr(double act) {
    return (peri_act_attr){.size = sizeof(peri_act_attr),
                           .act = act == PERI_FFN_GELU ? PERI_ACT_GELU : PERI_ACT_SILU};
}

static uint32_t gate_up_fused(builder *b, int64_t d_ff, const peri_act_attr *act, uint32_t x) {
    uint32_t y = build_linear(b, x, "ffn_up", b->a->d_model, 2 * d_ff, PERI_LINEAR_SCALE_LAST);
    if (b->status) return PERI_NONE;
    const int64_t half[] = {-PERI_SYM_T, d_ff};
    uint32_t gate = peri_graph_view(b->g, y, half, 2, 0),
             up = peri_graph_view(b->g, y, half, 2, d_ff);
    uint32_t out = build_rows(b, d_ff);
    peri_graph_add(b->g, PERI_OP_GLU, (const uint32_t[]){gate, up, out}, 2, 1, act, sizeof *act);
    return out;
}

static uint32_t gate_up_split(builder *b, int64_t d_ff, const peri_act_attr *act, uint32_t x) {
    const int64_t shape[] = {d_ff, b->a->d_model};
    bool is_plain = !build_has(b, "ffn_gate", ".bias") && !build_has(b, "ffn_up", ".bias") &&
                    !build_has(b, "ffn_gate", ".scale") && !build_has(b, "ffn_up", ".scale");
    if (!is_plain) {
        uint32_t gate = build_linear(b, x, "ffn_gate", b->a->d_model, d_ff, PERI_LINEAR_SCALE_LAST);
        uint32_t up = build_linear(b, x, "ffn_up", b->a->d_model, d_ff, PERI_LINEAR_SCALE_LAST);
        if (!b->status)
            peri_graph_add(b->g, PERI_OP_GLU, (const uint32_t[]){gate, up, gate}, 2, 1, act,
                           sizeof *act);
        return gate;
    }
    uint32_t wg = build_weight(b, "ffn_gate", ".weight", shape, 2, 0);
    uint32_t wu = build_weight(b, "ffn_up", ".weight", shape, 2, 0), y = build_rows(b, d_ff);
    if (!b->status)
        peri_graph_add(b->g, PERI_OP_GATE_UP_GLU, (const uint32_t[]){x, wg, wu, y}, 3, 1, act,
                       sizeof *act);
    return y;
}

uint32_t build_gated(builder *b, const peri_arch_layer *l, const peri_block_gated *o, uint32_t x) {
    peri_act_attr act = act_attr(o->act);
    int64_t d_ff = l->d_ff;
    if (d_ff < 1 && !b->status)
        b->status =
            peri_fail(b->err, PERI_E_CORRUPT,
                      "key %s.feed_forward_length is 0, but layer %d has a feed-forward block",
                      b->a->name, b->il);
    uint32_t y = o->fused != 0 ? gate_up_fused(b, d_ff, &act, x) : gate_up_split(b, d_ff, &act, x);
    return build_linear(b, y, "ffn_down", d_ff, b->a->d_model, PERI_LINEAR_SCALE_LAST);
}

/* y [T][K][n_out] = expert matrices `stem` [E][n_out][n_in] on x, chosen by ids. */
static uint32_t experts(builder *b, uint32_t x, uint32_t ids, const char *stem, int64_t n_in,
                        int64_t n_out) {
    const peri_arch *a = b->a;
    const int64_t bias_dim[] = {a->n_expert, n_out}, out[] = {-PERI_SYM_T, a->n_used, n_out};
    uint32_t w =
        build_weight(b, stem, ".weight", (const int64_t[]){a->n_expert, n_out, n_in}, 3, 0);
    uint32_t bias =
        build_weight(b, stem, ".bias", bias_dim, 2, PERI_BIND_OPTIONAL | PERI_BIND_VECTOR);
    uint32_t scale = build_scale(b, stem, a->n_expert),
             y = peri_graph_act(b->g, PERI_DT_F32, out, 3);
    if (!b->status)
        peri_graph_add(b->g, PERI_OP_LINEAR_EXPERTS, (const uint32_t[]){x, w, ids, bias, scale, y},
                       5, 1, NULL, 0);
    return y;
}

uint32_t build_moe(builder *b, const peri_block_moe *o, uint32_t x) {
    const peri_arch *a = b->a;
    if (a->n_expert < 1 || a->d_expert < 1) {
        if (!b->status)
            b->status = peri_fail(
                b->err, PERI_E_CORRUPT,
                "key %s.expert_count is %d and experts are %d wide, but layer %d has experts",
                a->name, a->n_expert, a->d_expert, b->il);
        return PERI_NONE;
    }
    const int64_t k[] = {-PERI_SYM_T, a->n_used};
    peri_act_attr act = act_attr(o->act);
    peri_route_attr route = {.size = sizeof route,
                             .kind = PERI_ROUTE_SOFTMAX,
                             .renorm = o->renorm != 0,
                             .n_group = 1,
                             .n_group_used = 1,
                             .weight_scale = 1};
    uint32_t l = build_linear(b, x, "ffn_gate_inp", a->d_model, a->n_expert, 0);
    uint32_t ids = peri_graph_act(b->g, PERI_DT_I32, k, 2),
             w = peri_graph_act(b->g, PERI_DT_F32, k, 2);
    if (b->status) return PERI_NONE;
    peri_graph_add(b->g, PERI_OP_ROUTE, (const uint32_t[]){l, PERI_NONE, ids, w}, 2, 2, &route,
                   sizeof route);
    uint32_t gate = experts(b, x, ids, "ffn_gate_exps", a->d_model, a->d_expert);
    uint32_t up = experts(b, x, ids, "ffn_up_exps", a->d_model, a->d_expert);
    if (b->status) return PERI_NONE;
    peri_graph_add(b->g, PERI_OP_GLU, (const uint32_t[]){gate, up, gate}, 2, 1, &act, sizeof act);
    uint32_t down = experts(b, gate, ids, "ffn_down_exps", a->d_expert, a->d_model),
             y = build_rows(b, a->d_model);
    if (!b->status)
        peri_graph_add(b->g, PERI_OP_EXPERT_SUM, (const uint32_t[]){down, w, y}, 2, 1, NULL, 0);
    return y;
}
