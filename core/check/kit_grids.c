/* SPDX-License-Identifier: MIT
 *
 * kit_grids.c - weight types whose bits are indices into books (IQ1, IQ2, IQ3), element by element
 * in f64.
 *
 * The books are those of grids.def, as they stand there; their numbers become values here.  An
 * element's run is the entry it lies in, of eight elements or of four. */
#include "check/kit.h"
#include "model/dtype.h"

#include "base/compiler.h"

#define ROW(...) __VA_ARGS__,
static const uint16_t iq2_xxs[256] = {
#define PERI_GRID_IQ2_XXS ROW
#include "perigee/grids.def"
};
static const uint16_t iq2_xs[512] = {
#define PERI_GRID_IQ2_XS ROW
#include "perigee/grids.def"
};
static const uint16_t iq2_s[1024] = {
#define PERI_GRID_IQ2_S ROW
#include "perigee/grids.def"
};
static const uint16_t iq1[2048] = {
#define PERI_GRID_IQ1 ROW
#include "perigee/grids.def"
};
static const uint16_t iq3_xxs[256] = {
#define PERI_GRID_IQ3_XXS ROW
#include "perigee/grids.def"
};
static const uint16_t iq3_s[512] = {
#define PERI_GRID_IQ3_S ROW
#include "perigee/grids.def"
};

static int u16(const unsigned char *p) {
    return p[0] | p[1] << 8;
}

static uint32_t u32(const unsigned char *p) {
    return (uint32_t)u16(p) | (uint32_t)u16(p + 2) << 16;
}

static int low_or_high(int byte, int is_high) {
    return is_high ? byte >> 4 : byte & 15;
}

/* Element k of an entry of IQ2. */
static double of_iq2(int entry, int k) {
    static const double value[4] = {8, 25, 43, 0};
    return value[entry >> 2 * k & 3];
}

/* Sign of element k of eight: seven bits are kept, the eighth makes the number of set ones even. */
static int sign7(uint32_t seven, int k) {
    int n = 0;
    if (k < 7) return seven >> k & 1 ? -1 : 1;
    for (int i = 0; i < 7; i++)
        n += seven >> i & 1;
    return n % 2 ? -1 : 1;
}

static double value_iq2_xxs(const unsigned char *b, int i) {
    const unsigned char *q = b + 2 + i / 32 * 8;
    int run = i % 32 / 8;
    uint32_t a = u32(q + 4);
    double scale = kit_f16(b) * (0.5 + (a >> 28)) / 4;
    return scale * of_iq2(iq2_xxs[q[run]], i % 8) * sign7(a >> 7 * run & 127, i % 8);
}

static double value_iq2_xs(const unsigned char *b, int i) {
    int q = u16(b + 2 + i / 8 * 2);
    double scale = kit_f16(b) * (0.5 + low_or_high(b[66 + i / 32], i / 16 % 2)) / 4;
    return scale * of_iq2(iq2_xs[q & 511], i % 8) * sign7((uint32_t)q >> 9, i % 8);
}

static double value_iq2_s(const unsigned char *b, int i) {
    int run = i / 8, index = b[2 + run] | (b[66 + run / 4] >> run % 4 * 2 & 3) << 8;
    double scale = kit_f16(b) * (0.5 + low_or_high(b[74 + i / 32], i / 16 % 2)) / 4;
    return scale * of_iq2(iq2_s[index], i % 8) * (b[34 + run] >> i % 8 & 1 ? -1 : 1);
}

static double value_iq3_xxs(const unsigned char *b, int i) {
    uint32_t a = u32(b + 66 + i / 32 * 4);
    int digit = iq3_xxs[b[2 + i / 4]] >> i % 4 * 4 & 15;
    double scale = kit_f16(b) * (0.5 + (a >> 28)) / 2;
    return scale * (digit == 7 ? 62 : 4 + 8 * digit) * sign7(a >> i / 8 % 4 * 7 & 127, i % 8);
}

static double value_iq3_s(const unsigned char *b, int i) {
    int run = i / 4, index = b[2 + run] | (b[66 + run / 8] >> run % 8 & 1) << 8;
    double scale = kit_f16(b) * (1 + 2 * low_or_high(b[106 + i / 64], i / 32 % 2));
    double digit = iq3_s[index] >> i % 4 * 4 & 15;
    return scale * (1 + 2 * digit) * (b[74 + i / 8] >> i % 8 & 1 ? -1 : 1);
}

/* Element k of an entry of IQ1, moved up or down by an eighth. */
static double of_iq1(int index, int k, int is_down) {
    return (iq1[index] >> 2 * k & 3) - 1 + (is_down ? -0.125 : 0.125);
}

static double value_iq1_s(const unsigned char *b, int i) {
    int run = i / 8, h = u16(b + 34 + i / 32 * 2);
    int index = b[2 + run] | (h >> run % 4 * 3 & 7) << 8;
    return kit_f16(b) * (1 + 2 * (h >> 12 & 7)) * of_iq1(index, i % 8, h >> 15);
}

/* The scale's four nibbles stand at the top of the four words at 48. */
static double value_iq1_m(const unsigned char *b, int i) {
    const unsigned char *sc = b + 48;
    int run = i / 8, h = low_or_high(b[32 + run / 2], run % 2);
    int scale = u16(sc + i / 64 * 2) >> i / 16 % 4 * 3 & 7;
    unsigned char d[2] = {(unsigned char)(sc[1] >> 4 | (sc[3] & 0xf0)),
                          (unsigned char)(sc[5] >> 4 | (sc[7] & 0xf0))};
    return kit_f16(d) * (1 + 2 * scale) * of_iq1(b[run] | (h & 7) << 8, i % 8, h >> 3);
}

static const struct {
    uint32_t dtype;
    double (*value)(const unsigned char *b, int i);
} types[] = {
    {PERI_DT_IQ2_XXS, value_iq2_xxs}, {PERI_DT_IQ2_XS, value_iq2_xs}, {PERI_DT_IQ2_S, value_iq2_s},
    {PERI_DT_IQ3_XXS, value_iq3_xxs}, {PERI_DT_IQ3_S, value_iq3_s},   {PERI_DT_IQ1_S, value_iq1_s},
    {PERI_DT_IQ1_M, value_iq1_m},
};

bool kit_is_grid(uint32_t dtype) {
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        if (types[k].dtype == dtype) return true;
    return false;
}

double kit_grid_value(uint32_t dtype, const unsigned char *b, int i) {
    size_t k = 0;
    while (types[k].dtype != dtype)
        k++;
    return types[k].value(b, i);
}
