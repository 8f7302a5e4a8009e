/* SPDX-License-Identifier: MIT
 *
 * rig.h - a runtime with the CPU plugin of the build tree, and tiny models on disk, for tests of
 * the whole engine. */
#ifndef PERI_TEST_RIG_H
#define PERI_TEST_RIG_H

#include <stddef.h>
#include <stdint.h>

#include "perigee/perigee.h"

/* Folder of this process for files, made at first use and removed by rig_end. */
const char *rig_dir(void);
void rig_end(void);
/* Write DIR/name and return its path (static, valid until the next call). */
const char *rig_write(const char *name, const void *data, size_t size);
/* A tiny random model of the architecture in DIR/name. */
const char *rig_tiny(const char *name, const char *arch, uint32_t dtype, uint64_t seed);
/* A runtime; settings is NULL or one "key=value".  n_thread 0 = default.  Fails the test on error.
 */
peri_runtime *rig_runtime(const char *library_dir, const char *script_dir, uint32_t n_thread,
                          const char *setting);

#endif
