/* SPDX-License-Identifier: MIT
 *
 * old_header.c - a plugin built against an older header, whose structs end earlier; written out
 * here, since no such header exists any more.  It must work. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    int32_t code;
    char text[252];
} error;

typedef struct { /* a host table that ended after `free` */
    uint32_t size;
    uint16_t major, minor;
    void *(*alloc)(size_t bytes, size_t align, int numa_node);
    void (*free)(void *p);
} host;

typedef struct { /* no mem_free, bandwidth or block size yet */
    uint32_t size, flags;
    char name[32], model[96], isa[32], location[32];
    uint64_t mem_total;
} dev_info;

typedef struct {
    uint32_t size;
    uint16_t major, minor;
    const char *name, *version, *license;
    int32_t (*device)(const host *h, uint32_t index, dev_info *out, error *e);
    int32_t (*open)(const host *h, uint32_t index, void **out, error *e);
    int32_t (*supports)(void *d, const void *p, uint32_t op, const void *b, void *out, error *e);
    int32_t (*run_op)(void *d, const void *p, uint32_t op, const void *m, const void *s, error *e);
} plugin; /* no close yet */

static int32_t device(const host *h, uint32_t index, dev_info *out, error *e) {
    dev_info d = {.size = sizeof d, .flags = 1, .mem_total = 1000};
    uint32_t room = out->size;
    (void)h, (void)e;
    if (index > 1) return -5;
    snprintf(d.name, sizeof d.name, "old%u", index);
    snprintf(d.location, sizeof d.location, "old:%u", index);
    if (room > sizeof d) room = sizeof d;
    memcpy((char *)out + 4, (char *)&d + 4, room - 4);
    return 0;
}

static int32_t open_device(const host *h, uint32_t index, void **out, error *e) {
    static char devices[2];
    (void)h, (void)e;
    *out = &devices[index];
    return 0;
}

static int32_t supports(void *d, const void *p, uint32_t op, const void *b, void *out, error *e) {
    (void)d, (void)p, (void)op, (void)b, (void)out, (void)e;
    return 0;
}

static int32_t run_op(void *d, const void *p, uint32_t op, const void *m, const void *s, error *e) {
    (void)d, (void)p, (void)op, (void)m, (void)s, (void)e;
    return 0;
}

__attribute__((visibility("default"))) const plugin *perigee_plugin_v0(const host *h, error *e);
const plugin *perigee_plugin_v0(const host *h, error *e) {
    static const plugin table = {sizeof table, 0,      0,           "old",    "0",
                                 "MIT",        device, open_device, supports, run_op};
    (void)h, (void)e;
    return &table;
}

__attribute__((section(".note.perigee"), used, aligned(4))) static const struct {
    uint32_t namesz, descsz, type;
    char name[8], desc[28];
} note = {8, 28, 0x50524731u, "Perigee", "abi=0.0 name=old arch=any"};
