/* SPDX-License-Identifier: MIT
 *
 * report.h - the part of kit_report.c that needs JSON. */
#ifndef PERI_CHECK_REPORT_H
#define PERI_CHECK_REPORT_H

#include <jansson.h>

#include "check/kit.h"

void kit_send(
    json_t *line);     /* takes the reference; NULL counts as out of memory and ends the process */
void kit_finish(void); /* the stage has ended by itself */

#endif
