/* SPDX-License-Identifier: MIT
 *
 * fibers.cc - the threads of a block: a stack each, run in turns.
 *
 * A block may stop where a kernel waits for the one before it (ahead_wait), and go on later.
 *
 * A thread that waits hands over to the next one that lives; the one that comes last opens the
 * barrier.  When all have had their turn and none got on, some of them never come: that is told
 * and ends the process, because on a device it would hang. */
#include <stdio.h>
#include <stdlib.h>

#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include "args.h"
#include "cuda_shim.h"

enum {
    STACK_BYTES = 256 * 1024,
    MOST_THREADS = CU_NORM_THREADS,
    MOST_WARPS = MOST_THREADS / CU_WARP
};

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

struct copies {
    struct one {
        void *to;
        unsigned char bytes[16];
        size_t n; /* of them */
        int group;
    };
    std::vector<one> all;
    int n_closed; /* groups */
};

struct shim_begun {
    copies copy[MOST_THREADS];
    uint32_t tile[MOST_WARPS][2][CU_WARP][6];
    context main, thread[MOST_THREADS];
    bool is_done[MOST_THREADS], has_waited[MOST_THREADS]; /* for the kernel before */
    int now, n_live;
    int n_idle; /* turns since something happened */
    barrier block, warp[MOST_WARPS], ahead;
    uint64_t lane[MOST_WARPS][2][CU_WARP];
    const shim_kernel *kernel;
    const void *args;
    unsigned index, n_block;
    bool is_used, stops_ahead;
    unsigned char *stacks;
};

static shim_begun blocks[2], *b;

[[noreturn]] static void give_up(const char *what) {
    fprintf(stderr, "cuda_shim: %s, block %u, thread %d: %s\n", b->kernel->name, blockIdx.x, b->now,
            what);
    abort();
}

/* To the next thread that lives; main when there is none. */
static void hand_over() {
    context *from = &b->thread[b->now], *to = &b->main;
    for (int i = 1; i <= b->kernel->n_thread && to == &b->main; i++) {
        int next = (b->now + i) % b->kernel->n_thread;
        if (b->is_done[next]) continue;
        b->now = next;
        to = &b->thread[next];
    }
    if (from == to) return;
    threadIdx.x = (unsigned)b->now;
    shim_switch(from, to);
}

static void wait_for(barrier *at, int n) {
    unsigned generation = at->generation;
    if (at->n_gone) give_up("waits for threads that have ended");
    b->n_idle = 0;
    if (++at->n_arrived == n) {
        at->n_arrived = 0;
        at->generation++;
        return;
    }
    while (at->generation == generation) {
        if (++b->n_idle > 4 * b->kernel->n_thread) give_up("waits where others do not come");
        hand_over();
    }
    b->n_idle = 0;
}

void __syncthreads() {
    wait_for(&b->block, b->kernel->n_thread);
}

void __syncwarp() {
    wait_for(&b->warp[b->now / CU_WARP], CU_WARP);
}

/* Two sets of slots: the next shuffle may begin while a lane still reads of this one. */
uint64_t shim_shuffle(uint64_t bits, unsigned mask) {
    int warp = b->now / CU_WARP;
    unsigned lane = (unsigned)b->now % CU_WARP;
    uint64_t *slot = b->lane[warp][b->warp[warp].generation % 2];
    slot[lane] = bits;
    __syncwarp();
    return slot[lane ^ mask];
}

/* ---- copies that run by themselves ---- */

void shim_copy(void *to, const void *from, int n, int size) {
    if ((uintptr_t)to % (size_t)size || (uintptr_t)from % (size_t)size || n < 0 || n > size)
        give_up("copies what does not lie at a multiple of its size");
    memset(to, 0xff, (size_t)size);
    copies *c = &b->copy[b->now];
    copies::one one = {to, {0}, (size_t)size, c->n_closed};
    memcpy(one.bytes, from, (size_t)n);
    c->all.push_back(one);
}

void shim_copy_commit() {
    b->copy[b->now].n_closed++;
}

void shim_copy_wait(int n_group) {
    copies *c = &b->copy[b->now];
    size_t i = 0;
    for (; i < c->all.size() && c->all[i].group < c->n_closed - n_group; i++)
        memcpy(c->all[i].to, c->all[i].bytes, c->all[i].n);
    c->all.erase(c->all.begin(), c->all.begin() + (long)i);
}

/* ---- tiles ---- */

void shim_tile(int *c, const uint32_t *a, const uint32_t *b_in, int n) {
    int w = b->now / CU_WARP, lane = b->now % CU_WARP, n_word = n / 4;
    uint32_t(*given)[6] = b->tile[w][b->warp[w].generation % 2];
    for (int i = 0; i < n_word / 2; i++)
        given[lane][i] = a[i];
    for (int i = 0; i < n_word / 4; i++)
        given[lane][4 + i] = b_in[i];
    __syncwarp();
    for (int k = 0; k < 4; k++) {
        int row = lane / 4 + k / 2 * 8, column = lane % 4 * 2 + k % 2;
        for (int i = 0; i < n_word; i++)
            c[k] = shim_dot_4(given[row % 8 * 4 + i % 4][row / 8 + i / 4 * 2],
                              given[column * 4 + i % 4][4 + i / 4], c[k]);
    }
}

/* ---- a kernel ---- */

void shim_ahead_wait() {
    if (b->has_waited[b->now]) give_up("says ahead_wait once more");
    b->has_waited[b->now] = true;
    if (b->stops_ahead && b->ahead.n_arrived == b->kernel->n_thread - 1) {
        b->stops_ahead = false;
        shim_switch(&b->thread[b->now], &b->main);
    }
    wait_for(&b->ahead, b->kernel->n_thread);
}

static void run_thread() {
    b->kernel->run(b->args);
    if (!b->has_waited[b->now]) give_up("ends without ahead_wait");
    b->is_done[b->now] = true;
    b->block.n_gone++;
    b->warp[b->now / CU_WARP].n_gone++;
    if (b->block.n_arrived || b->warp[b->now / CU_WARP].n_arrived)
        give_up("ends while others wait for it");
    b->n_live--;
    b->n_idle = 0;
    hand_over();
    abort(); /* it never runs again */
}

/* Until it ends, or stops. */
static void resume(shim_begun *block) {
    b = block;
    blockIdx.x = b->index;
    threadIdx.x = (unsigned)b->now;
    shim_switch(&b->main, &b->thread[b->now]);
}

static void start(shim_begun *block, unsigned index) {
    b = block;
    b->index = index;
    b->block = b->ahead = barrier();
    for (int i = 0; i < MOST_WARPS; i++)
        b->warp[i] = barrier();
    for (int i = 0; i < b->kernel->n_thread; i++) {
        b->is_done[i] = b->has_waited[i] = false;
        b->copy[i].all.clear();
        b->copy[i].n_closed = 0;
        make(&b->thread[i], b->stacks + (size_t)i * STACK_BYTES, run_thread);
    }
    b->n_live = b->kernel->n_thread;
    b->n_idle = b->now = 0;
    resume(b);
}

static shim_begun *take(const shim_kernel *k, const void *args, unsigned n_block) {
    shim_begun *block = blocks[0].is_used ? &blocks[1] : &blocks[0];
    if (!block->stacks)
        block->stacks = (unsigned char *)aligned_alloc(64, (size_t)MOST_THREADS * STACK_BYTES);
    if (block->is_used || !block->stacks) abort();
    block->is_used = true;
    block->stops_ahead = false;
    block->kernel = k;
    block->args = args;
    block->n_block = n_block;
    return block;
}

shim_begun *shim_begin(const shim_kernel *k, const void *args, unsigned n_block) {
    shim_begun *block = take(k, args, n_block);
    block->stops_ahead = true;
    start(block, 0);
    return block;
}

void shim_end(shim_begun *block) {
    resume(block);
    for (unsigned i = 1; i < block->n_block; i++)
        start(block, i);
    block->is_used = false;
}

void shim_drop(shim_begun *block) {
    block->is_used = false;
}

void shim_launch(const shim_kernel *k, const void *args, unsigned n_block, bool is_reversed) {
    shim_begun *block = take(k, args, n_block);
    for (unsigned i = 0; i < n_block; i++)
        start(block, is_reversed ? n_block - 1 - i : i);
    block->is_used = false;
}

/* ---- names ---- */

static const shim_kernel *first;

shim_kernel::shim_kernel(const char *name_, size_t n_args_, int n_thread_,
                         void (*run_)(const void *args))
    : name(name_), n_args(n_args_), n_thread(n_thread_), run(run_), next(first) {
    if (n_thread > MOST_THREADS || n_thread % CU_WARP) abort();
    first = this;
}

const shim_kernel *shim_find(const char *name) {
    const shim_kernel *k = first;
    while (k && strcmp(k->name, name) != 0)
        k = k->next;
    return k;
}
