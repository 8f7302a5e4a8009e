/* SPDX-License-Identifier: MIT
 *
 * place_int.h - what the files of placement share: place.c, which compares and explains,
 * place_list.c, which lists, and place_read.c, which measures memory. */
#ifndef PERI_PLUGIN_PLACE_INT_H
#define PERI_PLUGIN_PLACE_INT_H

#include "plugin/registry.h"

enum { PERI_PLACE_REASON = 160 };

bool peri_place_is_emulated(const peri_device *d);
/* Measured by running ops, else declared, else that of the memory; 0 = unknown. */
float peri_place_gbps(const peri_registry *r, size_t i, const peri_reads *reads);
/* Is device a the better choice?  Both can be chosen. */
bool peri_place_is_better(const peri_registry *r, const peri_reads *reads, size_t a, size_t b);
/* The best of is_candidate[n_device], or n_device. */
size_t peri_place_best(const peri_registry *r, const peri_reads *reads, const bool *is_candidate);
/* Is `name` the device's, or its plugin's? */
bool peri_place_is_named(const peri_registry *r, size_t i, const char *name);
/* Why nothing called `name` can be used for `reads`. */
void peri_place_why_not(const peri_registry *r, const char *name, const peri_reads *reads,
                        char *why, size_t n);
/* Find out device i's bandwidth for `reads`, unless it is known. */
void peri_place_measure(peri_registry *r, const peri_reads *reads, size_t i);
/* Write why c->device won.  is_candidate: it and those it was compared with; wish: what the user
 * asked for, or NULL. */
void peri_place_explain(const peri_registry *r, const bool *is_candidate, const peri_reads *reads,
                        const char *wish, peri_choice *c);
/* place_read.c: measure the memory of device i, where that is the host's, into measured_gbps. */
void peri_place_read(peri_registry *r, size_t i);

#endif
