/* SPDX-License-Identifier: MIT
 *
 * pool.h - pinned worker threads that split one job into chunks.
 *
 * A job is n calls fn(arg, i, worker).  Each worker begins with a range of neighbouring chunks of
 * its own and takes them one by one, rising; who has finished his helps the others from the end of
 * theirs.  A thread that lost its processor to another program while it holds a chunk is moved to
 * the processor of one that waits for it, and moved back afterwards.  Waiting spins for 20 (caller)
 * or 100 microseconds and then sleeps on a futex: an idle or crowded machine is left alone.  The
 * caller of peri_pool_run is worker 0 and works too; its affinity is the same before and after. */
#ifndef PERI_BASE_POOL_H
#define PERI_BASE_POOL_H

#include "perigee/types.h"

typedef struct peri_pool peri_pool;
typedef void (*peri_pool_fn)(void *arg, uint32_t i, uint32_t worker);

/* n_worker >= 1, the caller included.  cpu[n_worker]: OS processor number of each worker, or NULL
 * for no pinning; the caller's own affinity is left alone.  PERI_E_NOMEM or PERI_E_OTHER when a
 * thread cannot start. */
peri_status peri_pool_new(uint32_t n_worker, const int32_t *cpu, peri_pool **out, peri_error *err);
void peri_pool_free(peri_pool *p); /* accepts NULL; joins */
uint32_t peri_pool_workers(const peri_pool *p);
/* One caller at a time.  Returns when all n calls have returned; what they wrote is visible. */
void peri_pool_run(peri_pool *p, uint32_t n, peri_pool_fn fn, void *arg);

#endif
