/* SPDX-License-Identifier: MIT
 *
 * tree.h - a JSON document of the library as text for people.
 *
 * Scalars become "name  value" lines, arrays of flat objects (and objects of flat objects) become
 * tables with the members as columns, everything else a headed block.  Names are the document's
 * own, so a reader of the text finds them in --json too.  Members that count bytes are shown in
 * KiB, MiB, GiB. */
#ifndef PERI_APP_TREE_H
#define PERI_APP_TREE_H

#include <jansson.h>

/* Print to stdout, indented. */
void peri_tree_print(const json_t *v, int indent);

#endif
