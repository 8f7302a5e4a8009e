/* SPDX-License-Identifier: MIT
 *
 * rules.h - the user's word on which part of a model goes where: "layers 0-9 on cuda:0; experts on
 * cpu; head on cuda:1".
 *
 * Rules are separated by `;` or ends of lines.  A rule is PART on DEVICE, PART being `layers` or
 * `layer` (attention, norms, shared weights, keys and values, and experts unless a rule of their
 * own says otherwise), `experts`, `embedding` or `head`; layers and experts may be followed by a
 * number or a range, `0-9`, both ends included, and are all of them otherwise.  DEVICE is a device
 * or a plugin, as for --device.  A later rule goes before an earlier one of the same kind.  What no
 * rule names is placed as usual, around what is fixed. */
#ifndef PERI_PLUGIN_RULES_H
#define PERI_PLUGIN_RULES_H

#include <stdbool.h>

#include "perigee/types.h"

typedef enum peri_rule_part {
    PERI_RULE_LAYERS,
    PERI_RULE_EXPERTS,
    PERI_RULE_EMBEDDING,
    PERI_RULE_HEAD
} peri_rule_part;

enum { PERI_RULE_MAX = 64, PERI_RULE_ALL = 0x7fffffff, PERI_RULE_FREE = 0xff };

typedef struct peri_rule {
    peri_rule_part part;
    uint32_t first, last; /* layers; last is PERI_RULE_ALL where no range is given */
    uint32_t column;      /* of its first letter, from 1 */
    char device[32];
    char text[80]; /* as it was written */
} peri_rule;

typedef struct peri_rules {
    uint32_t n;
    peri_rule rule[PERI_RULE_MAX];
} peri_rules;

/* text: NULL = no rules.  PERI_E_INVALID names the column, what was found and what is expected. */
peri_status peri_rules_parse(const char *text, peri_rules *out, peri_error *err);
/* place[n_part], parts as in split.h: the number of the rule that decides a part, or
 * PERI_RULE_FREE.  PERI_E_RANGE for layers that the model does not have. */
peri_status peri_rules_apply(const peri_rules *r, uint32_t n_layer, uint8_t *place,
                             peri_error *err);

#endif
