/* SPDX-License-Identifier: MIT
 *
 * fibers.cc - the threads of a block: a stack each, run in turns.
 *
 * A thread that waits hands over to the next one that lives; the one that comes last opens the
 * barrier.  When all have had their turn and none got on, some of them never come: that is told
 * and ends the process, because on a device it would hang. */
#include <stdio.h>
#include <stdlib.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include "args.h"
#include "cuda_shim.h"

enum { STACK_BYTES = 256 * 1024 };

shim_index threadIdx, blockIdx;

/* ---- contexts ---- */

#if defined(__x86_64__)
/* The registers a call preserves are pushed, the stack changed, and those of the other popped. */
typedef void *context;
extern "C" void shim_switch(context *from, context *to);
__asm__(".text\n.globl shim_switch\n.hidden shim_switch\n.type shim_switch,@function\n"
        "shim_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp, (%rdi)\nmovq (%rsi), %rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
        ".size shim_switch, .-shim_switch\n");

static void make(context *c, unsigned char *stack, void (*start)()) {
    void **top = (void **)(void *)(stack + STACK_BYTES);
    *--top = NULL; /* start has no caller; the stack is 8 from a multiple of 16, as after a call */
    *--top = (void *)start;
    for (int i = 0; i < 6; i++)
        *--top = NULL;
    *c = top;
}
#else
typedef ucontext_t context;
static void shim_switch(context *from, context *to) {
    swapcontext(from, to);
}
static void make(context *c, unsigned char *stack, void (*start)()) {
    getcontext(c);
    c->uc_stack.ss_sp = stack;
    c->uc_stack.ss_size = STACK_BYTES;
    c->uc_link = NULL;
    makecontext(c, start, 0);
}
#endif

/* ---- a block ---- */

struct barrier {
    int n_arrived, n_gone; /* gone: ended, and so missing for ever */
    unsigned generation;
};

static struct {
    context main, thread[CU_THREADS];
    bool is_done[CU_THREADS];
    int now, n_live;
    int n_idle; /* turns since something happened */
    barrier block, warp[CU_ROWS];
    uint64_t lane[CU_ROWS][2][CU_WARP];
    const shim_kernel *kernel;
    const void *args;
} b;

static unsigned char *stacks;

[[noreturn]] static void give_up(const char *what) {
    fprintf(stderr, "cuda_shim: %s, block %u, thread %d: %s\n", b.kernel->name, blockIdx.x, b.now,
            what);
    abort();
}

/* To the next thread that lives; main when there is none. */
static void hand_over() {
    context *from = &b.thread[b.now], *to = &b.main;
    for (int i = 1; i <= CU_THREADS && to == &b.main; i++) {
        int next = (b.now + i) % CU_THREADS;
        if (b.is_done[next]) continue;
        b.now = next;
        to = &b.thread[next];
    }
    if (from == to) return;
    threadIdx.x = (unsigned)b.now;
    shim_switch(from, to);
}

static void wait_for(barrier *at, int n) {
    unsigned generation = at->generation;
    if (at->n_gone) give_up("waits for threads that have ended");
    b.n_idle = 0;
    if (++at->n_arrived == n) {
        at->n_arrived = 0;
        at->generation++;
        return;
    }
    while (at->generation == generation) {
        if (++b.n_idle > 4 * CU_THREADS) give_up("waits where others do not come");
        hand_over();
    }
    b.n_idle = 0;
}

void __syncthreads() {
    wait_for(&b.block, CU_THREADS);
}

void __syncwarp() {
    wait_for(&b.warp[b.now / CU_WARP], CU_WARP);
}

/* Two sets of slots: the next shuffle may begin while a lane still reads of this one. */
uint64_t shim_shuffle(uint64_t bits, unsigned mask) {
    int warp = b.now / CU_WARP;
    unsigned lane = (unsigned)b.now % CU_WARP;
    uint64_t *slot = b.lane[warp][b.warp[warp].generation % 2];
    slot[lane] = bits;
    __syncwarp();
    return slot[lane ^ mask];
}

static void run_thread() {
    b.kernel->run(b.args);
    b.is_done[b.now] = true;
    b.block.n_gone++;
    b.warp[b.now / CU_WARP].n_gone++;
    if (b.block.n_arrived || b.warp[b.now / CU_WARP].n_arrived)
        give_up("ends while others wait for it");
    b.n_live--;
    b.n_idle = 0;
    hand_over();
    abort(); /* it never runs again */
}

void shim_launch(const shim_kernel *k, const void *args, unsigned n_block) {
    if (!stacks) stacks = (unsigned char *)aligned_alloc(64, (size_t)CU_THREADS * STACK_BYTES);
    if (!stacks) abort();
    b.kernel = k;
    b.args = args;
    for (blockIdx.x = 0; blockIdx.x < n_block; blockIdx.x++) {
        b.block = barrier();
        for (int i = 0; i < CU_ROWS; i++)
            b.warp[i] = barrier();
        for (int i = 0; i < CU_THREADS; i++) {
            b.is_done[i] = false;
            make(&b.thread[i], stacks + (size_t)i * STACK_BYTES, run_thread);
        }
        b.n_live = CU_THREADS;
        b.n_idle = b.now = 0;
        threadIdx.x = 0;
        shim_switch(&b.main, &b.thread[0]);
    }
}

/* ---- names ---- */

static const shim_kernel *first;

shim_kernel::shim_kernel(const char *name_, size_t n_args_, void (*run_)(const void *args))
    : name(name_), n_args(n_args_), run(run_), next(first) {
    first = this;
}

const shim_kernel *shim_find(const char *name) {
    const shim_kernel *k = first;
    while (k && strcmp(k->name, name) != 0)
        k = k->next;
    return k;
}
