/* SPDX-License-Identifier: MIT
 *
 * explain_measure.h - what a placement does beside what was predicted of it. */
#ifndef PERI_APP_EXPLAIN_MEASURE_H
#define PERI_APP_EXPLAIN_MEASURE_H

#include <jansson.h>

#include "target.h"

/* Add "tokens_per_second", [{test, predicted, measured, measured_by_predicted}], to the document of
 * peri_model_explain.  False after an error was reported. */
bool peri_explain_measure(peri_model *m, json_t *explained);

#endif
