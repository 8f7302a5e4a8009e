/* SPDX-License-Identifier: MIT
 *
 * figures.h - how fast a device is: measured once by running ops of its plugin, and kept.
 *
 * Plugins declare one figure at most, the bandwidth of the memory.  What decides the speed of a
 * model is how fast the plugin reads weights of the model's types, what an op costs beside that,
 * and what a copy costs; none of these can be looked up.  So they are measured when a placement
 * first depends on them (run/calibrate.c, about 0.2 s per device and type) and kept in
 * figures.json of the cache folder until plugin, driver, device, place or threads change. */
#ifndef PERI_PLUGIN_FIGURES_H
#define PERI_PLUGIN_FIGURES_H

#include <stdbool.h>

#include "perigee/types.h"

enum { PERI_FIGURE_TYPES = 8 };

/* Weights of one type in LINEAR: for one token 10^9 bytes/s read, and microseconds beside that; for
 * many tokens 10^9 multiplications/s.  All 0: the device declines the type. */
typedef struct peri_type_rate {
    uint32_t dtype;
    double gbps, op_us, gmacs;
} peri_type_rate;

typedef struct peri_figures {
    char date[24]; /* when it was measured, "2026-11-26"; "" = never */
    uint32_t n_type;
    peri_type_rate type[PERI_FIGURE_TYPES];
    double op_us;              /* of an op that has next to nothing to do */
    double kv_gbps;            /* F16 keys and values read by ATTN for one token; 0 = declined */
    double attn_us;            /* what it costs beside reading them */
    double attn_gmacs;         /* multiplications of ATTN for many tokens; 0 = declined */
    double copy_us, link_gbps; /* of a copy to or from host memory: in all, and per byte */
    char why[160];             /* why it was not measured when it was to be; "" else */
} peri_figures;

/* What a token of a model reads, by type of weights; the type with most bytes first. */
typedef struct peri_reads {
    uint64_t bytes; /* in all */
    uint32_t n_type;
    struct {
        uint32_t dtype;
        uint64_t bytes;
    } type[PERI_FIGURE_TYPES];
} peri_reads;

/* The rate of a type; NULL when it was not measured. */
const peri_type_rate *peri_figures_type(const peri_figures *f, uint32_t dtype);
/* "Q4_0": the name of a type of dtype.def, or NULL. */
const char *peri_figures_type_name(uint32_t dtype);
/* 10^9 bytes/s at which a device of these figures reads all of it; 0 = not known. */
double peri_figures_gbps(const peri_figures *f, const peri_reads *reads);

#endif
