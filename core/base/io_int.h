/* SPDX-License-Identifier: MIT
 *
 * io_int.h - what io.c and mapping.c share; included nowhere else. */
#ifndef PERI_BASE_IO_INT_H
#define PERI_BASE_IO_INT_H

#include "base/io.h"

/* The table in force. */
const peri_io_ops *peri_io_ops_get(void);
/* "FILE: WHAT: <text of the errno value>"; NOT_FOUND for a missing file, NOMEM for ENOMEM, else IO.
 */
peri_status peri_io_fail(peri_error *err, const char *path, const char *what, int number);
/* Open a regular file for reading and get its size; *fd is -1 on failure. */
peri_status peri_io_open_regular(const char *path, int *fd, uint64_t *size, peri_error *err);

#endif
