/* SPDX-License-Identifier: MIT
 *
 * test_topology.c - what is made of machines that are not this one, of affinity and of cgroups. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "harness.h"
#include "plugin/topology.h"
#include "plugin_rig.h"

#define XML(name) PERI_SOURCE_DIR "/tests/topology/" name ".xml"

static peri_topology *load(const peri_topology_options *o) {
    peri_topology *t = NULL;
    peri_error err = {0};
    assert_ok(peri_topology_new(o, &t, &err), err);
    return t;
}

static peri_topology *load_xml(const char *path, const char *cpuset) {
    peri_topology_options o = {.size = sizeof o, .xml = path, .cpuset = cpuset};
    return load(&o);
}

static void assert_node(const peri_topology *t, uint32_t i, int32_t numa, const char *cpus) {
    const peri_topo_node *n = peri_topology_node(t, i);
    char found[128] = "";
    assert_non_null(n);
    assert_int_equal(n->numa, numa);
    for (uint32_t k = 0; k < n->n_core; k++) {
        size_t used = strlen(found);
        snprintf(found + used, sizeof found - used, "%s%d", k ? " " : "", (int)n->cpu[k]);
    }
    assert_string_equal(found, cpus);
}

static void assert_threads(const peri_topology *t, uint32_t node, uint32_t wanted,
                           uint32_t expected, const char *sentence) {
    char why[200];
    assert_int_equal(peri_topology_threads(t, node, wanted, why, sizeof why), expected);
    assert_string_equal(why, sentence);
    assert_int_equal(peri_topology_threads(t, node, wanted, NULL, 0), expected);
}

static void assert_note(const peri_topology *t, const char *fragment) {
    for (uint32_t i = 0; i < peri_topology_n_note(t); i++)
        if (strstr(peri_topology_note(t, i), fragment) != NULL) return;
    fail_msg("no note has \"%s\"", fragment);
}

static void topology_takes_one_thread_per_core_of_each_socket(void **state) {
    (void)state;
    peri_topology *t = load_xml(XML("dual_socket"), NULL);
    assert_int_equal(peri_topology_n_node(t), 2);
    assert_node(t, 0, 0, "0 2 4 6");
    assert_node(t, 1, 1, "8 10 12 14");
    assert_int_equal(peri_topology_node(t, 0)->mem_total, 64000000000);
    assert_int_equal(peri_topology_node(t, 0)->mem_free, 0);
    assert_null(peri_topology_node(t, 2));
    assert_threads(t, 1, 0, 4, "4 threads: 4 cores of node 1; quota none");
    assert_threads(t, 1, 3, 3, "3 threads: 3 wanted, 4 cores of node 1; quota none");
    assert_threads(t, 1, 99, 4, "4 threads: 99 wanted, 4 cores of node 1; quota none");
    assert_string_equal(peri_topology_cpu_model(t), "Example Processor 8000");
    assert_false(peri_topology_is_thissystem(t));
    assert_int_equal(peri_topology_quota(t), 0);
    assert_int_equal(peri_topology_n_pci(t), 0);
    peri_topology_free(t);
}

static void topology_honours_a_cpuset(void **state) {
    (void)state;
    peri_topology *t = load_xml(XML("dual_socket"), "1,4-5,10");
    assert_int_equal(peri_topology_n_node(t), 2);
    assert_node(t, 0, 0, "1 4"); /* the second thread of core 0 stands for it */
    assert_node(t, 1, 1, "10");
    assert_note(t, "affinity: 4 of 16 processors");
    assert_threads(t, 0, 0, 2,
                   "2 threads: 2 cores of node 0, affinity 4 of 16 processors; quota none");
    peri_topology_free(t);
    t = load_xml(XML("dual_socket"), "8-15"); /* node 0 vanishes with its processors */
    assert_int_equal(peri_topology_n_node(t), 1);
    assert_node(t, 0, 1, "8 10 12 14");
    peri_topology_free(t);
}

static void topology_prefers_fast_cores(void **state) {
    (void)state;
    peri_topology *t = load_xml(XML("hybrid"), NULL);
    assert_node(t, 0, 0, "0 2");
    assert_note(t, "core kinds: 2; 4 of 8 processors belong to the fastest (IntelCore)");
    assert_threads(t, 0, 0, 2, "2 threads: 2 fast cores; quota none");
    peri_topology_free(t);
    t = load_xml(XML("hybrid"), "4-7"); /* none of them allowed: the slow ones it is */
    assert_node(t, 0, 0, "4 6");
    peri_topology_free(t);
    t = load_xml(XML("favoured"), NULL); /* 6 % of clock are no kind of core */
    assert_node(t, 0, 0, "0 2 4 6");
    peri_topology_free(t);
}

static void topology_counts_processors_once(void **state) {
    (void)state;
    peri_topology *t = load_xml(XML("hbm"), NULL);
    assert_int_equal(peri_topology_n_node(t), 1);
    assert_note(t, "memory node 1 (15258 MiB) has the processors of node 0");
    peri_topology_free(t);
}

static void topology_lists_display_and_accelerator_functions(void **state) {
    (void)state;
    peri_topology *t = load_xml(XML("gpu"), NULL);
    assert_int_equal(peri_topology_n_pci(t), 2); /* the network card is none */
    const peri_topo_pci *a = peri_topology_pci(t, 0), *b = peri_topology_pci(t, 1);
    assert_string_equal(a->busid, "0000:3b:00.0");
    assert_int_equal(a->vendor, 0x10de);
    assert_int_equal(a->device, 0x2330);
    assert_int_equal(a->class_id, 0x0302);
    assert_string_equal(a->name, "NVIDIA Corporation GH100 [H100 SXM5 80GB]");
    assert_int_equal(a->numa, 0);
    assert_true(a->link_gbps == 63);
    assert_string_equal(b->busid, "0000:5e:00.0");
    assert_int_equal(b->class_id, 0x1200);
    assert_int_equal(b->numa, 1);
    assert_string_equal(b->name, "");
    assert_null(peri_topology_pci(t, 2));
    peri_topology_free(t);
}

/* ---- cgroups
 * ------------------------------------------------------------------------------------- */

static void put(const peri_rig *rig, const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s", rig_path(rig, name));
    for (char *s = path + strlen(rig->home) + 1; *s != 0; s++) {
        if (*s != '/') continue;
        *s = 0;
        mkdir(path, 0755);
        *s = '/';
    }
    FILE *f = fopen(path, "w");
    if (f == NULL) fail_msg("cannot write %s", path);
    fputs(text, f);
    fclose(f);
}

static peri_topology *load_slice(const peri_rig *rig, const char *self) {
    put(rig, "self", self);
    peri_topology_options o = {.size = sizeof o,
                               .synthetic = "numa:1(memory=8GB) core:8 pu:1",
                               .cgroup_root = rig_path(rig, "cg"),
                               .cgroup_self = rig_path(rig, "self")};
    return load(&o);
}

static void topology_takes_the_smallest_quota_up_the_hierarchy(void **state) {
    (void)state;
    peri_rig rig;
    rig_init(&rig, "core:1 pu:1");
    put(&rig, "cg/cgroup.controllers", "cpu memory\n");
    put(&rig, "cg/a/b/cpu.max", "max 100000\n");
    put(&rig, "cg/a/cpu.max", "350000 100000\n");
    put(&rig, "cg/a/b/memory.max", "3000000000\n");
    put(&rig, "cg/a/memory.max", "max\n");
    peri_topology *t = load_slice(&rig, "0::/a/b\n");
    assert_int_equal(peri_topology_quota(t), 3);
    assert_int_equal(peri_topology_mem_limit(t), 3000000000);
    assert_note(t, "cgroup quota: 3.5 processors, rounded down to 3");
    assert_note(t, "cgroup memory limit: 2861 MiB");
    assert_threads(t, 0, 0, 3, "3 threads: 8 cores; quota 3.5 processors");
    assert_threads(t, 0, 2, 2, "2 threads: 2 wanted, 8 cores; quota 3.5 processors");
    peri_topology_free(t);
    put(&rig, "cg/a/b/cpu.max", "50000 100000\n");
    t = load_slice(&rig, "0::/a/b\n");
    assert_int_equal(peri_topology_quota(t), 1);
    assert_note(t, "cgroup quota: 0.5 processors, rounded up to 1");
    peri_topology_free(t);
    /* A container sees its own group as the mount's root; a path from outside must not lead
     * anywhere. */
    put(&rig, "cg/cpu.max", "200000 100000\n");
    t = load_slice(&rig, "0::/../../a\n");
    assert_int_equal(peri_topology_quota(t), 2);
    peri_topology_free(t);
    t = load_slice(&rig, "0::/not/mounted/here\n");
    assert_int_equal(peri_topology_quota(t), 2);
    peri_topology_free(t);
    rig_fini(&rig);
}

static void topology_reads_version_1_groups(void **state) {
    (void)state;
    peri_rig rig;
    rig_init(&rig, "core:1 pu:1");
    put(&rig, "cg/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "250000\n");
    put(&rig, "cg/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n");
    put(&rig, "cg/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put(&rig, "cg/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put(&rig, "cg/memory/docker/x/memory.limit_in_bytes", "9223372036854771712\n");
    put(&rig, "cg/memory/docker/memory.limit_in_bytes", "1000000000\n");
    peri_topology *t =
        load_slice(&rig, "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n2:cpuset:/\n0::/\n");
    assert_int_equal(peri_topology_quota(t), 2);
    assert_int_equal(peri_topology_mem_limit(t), 1000000000);
    peri_topology_free(t);
    rig_fini(&rig);
}

static void topology_shrugs_at_odd_group_files(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint32_t quota;
        uint64_t mem;
    } odd[] = {{"", 0, 0},
               {"max", 0, 0},
               {"-5 100000", 0, 0},
               {"100000 0", 0, 100000},
               {"junk", 0, 0},
               {"7 -1", 0, 7},
               {"99999999999999999999 1", 0, 0},
               {"0 100000", 0, 0},
               {"\n\n", 0, 0},
               {"300000 junk 7", 3, 300000}}; /* a period that is missing has a default */
    peri_rig rig;
    rig_init(&rig, "core:1 pu:1");
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        put(&rig, "cg/cpu.max", odd[i].text);
        put(&rig, "cg/memory.max", odd[i].text);
        peri_topology *t = load_slice(&rig, i % 2 ? "0::/\n" : "nonsense\n:::\n0::/\n0:\n\n");
        assert_int_equal(peri_topology_quota(t), odd[i].quota);
        assert_int_equal(peri_topology_mem_limit(t), odd[i].mem);
        assert_int_equal(peri_topology_threads(t, 0, 0, NULL, 0), odd[i].quota ? odd[i].quota : 8);
        peri_topology_free(t);
    }
    rig_fini(&rig);
}

/* ---- this machine
 * -------------------------------------------------------------------------------- */

static void topology_of_this_machine_honours_affinity(void **state) {
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    int last = -1;
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &before)) last = c;
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    peri_topology *t = load(NULL);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_true(peri_topology_is_thissystem(t));
    assert_int_equal(peri_topology_n_node(t), 1);
    assert_int_equal(peri_topology_node(t, 0)->n_core, 1);
    assert_int_equal(peri_topology_node(t, 0)->cpu[0], last);
    assert_true(peri_topology_node(t, 0)->mem_total > 0);
    assert_int_equal(peri_topology_threads(t, 0, 0, NULL, 0), 1);
    peri_topology_free(t);
}

static void topology_refuses_descriptions_it_cannot_read(void **state) {
    (void)state;
    peri_topology *t;
    peri_error err;
    peri_topology_options o = {.size = sizeof o, .synthetic = "core:many"};
    assert_int_equal(peri_topology_new(&o, &t, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "synthetic description 'core:many' is not valid");
    assert_null(t);
    o = (peri_topology_options){.size = sizeof o, .xml = "/no/such.xml"};
    assert_true(peri_topology_new(&o, &t, &err) < 0);
    assert_non_null(strstr(err.text, "/no/such.xml"));
    o = (peri_topology_options){.size = sizeof o, .synthetic = "core:2 pu:1", .cpuset = "77"};
    assert_int_equal(peri_topology_new(&o, &t, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "processors '77'");
}

static void topology_survives_lack_of_memory(void **state) {
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    peri_topology_options xml = {.size = sizeof xml, .xml = XML("gpu")};
    const peri_topology_options *machines[] = {NULL, &xml};
    for (int m = 0; m < 2; m++)
        for (uint64_t n = 1;; n++) {
            peri_topology *t;
            peri_error err = {0};
            f->calls = 0;
            f->fail_at = n;
            peri_status status = peri_topology_new(machines[m], &t, &err);
            bool is_past_end = f->calls < n;
            assert_int_equal(status, is_past_end ? PERI_OK : PERI_E_NOMEM);
            assert_int_equal(err.code, status);
            peri_topology_free(t);
            assert_int_equal(f->live, 0);
            if (is_past_end) break;
        }
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(topology_takes_one_thread_per_core_of_each_socket),
        cmocka_unit_test(topology_honours_a_cpuset),
        cmocka_unit_test(topology_prefers_fast_cores),
        cmocka_unit_test(topology_counts_processors_once),
        cmocka_unit_test(topology_lists_display_and_accelerator_functions),
        cmocka_unit_test(topology_takes_the_smallest_quota_up_the_hierarchy),
        cmocka_unit_test(topology_reads_version_1_groups),
        cmocka_unit_test(topology_shrugs_at_odd_group_files),
        cmocka_unit_test(topology_of_this_machine_honours_affinity),
        cmocka_unit_test(topology_refuses_descriptions_it_cannot_read),
        cmocka_unit_test(topology_survives_lack_of_memory),
    };
    return peri_run_tests(tests);
}
