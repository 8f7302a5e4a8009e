/* SPDX-License-Identifier: MIT
 *
 * test_place.c - which device is chosen on machines of several kinds, and what is said of the
 * others.  The null plugin plays the devices: what a CPU plugin would list for each memory node,
 * and accelerators. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "harness.h"
#include "plugin_rig.h"

#define XML(name) PERI_SOURCE_DIR "/tests/topology/" name ".xml"
#define GB        UINT64_C(1000000000)

static const peri_reads a_gigabyte = {.bytes = GB};

static void use_machine(peri_rig *rig, const char *xml, const char *cpuset) {
    peri_topology_options o = {.size = sizeof o, .xml = xml, .cpuset = cpuset};
    peri_error err = {0};
    rig_init(rig, NULL);
    peri_topology_free(rig->topology);
    rig->topology = NULL;
    assert_ok(peri_topology_new(&o, &rig->topology, &err), err);
    rig_add(rig, rig_null());
    rig_add(rig, rig_plugin("nil"));
}

static void assert_choice(const peri_rig *rig, uint64_t bytes, const char *wanted, const char *name,
                          const char *why) {
    peri_reads reads = {.bytes = bytes};
    peri_choice c;
    peri_error err = {0};
    assert_ok(peri_place_choose(rig->registry, &reads, wanted, &c, &err), err);
    assert_string_equal(peri_registry_device(rig->registry, c.device)->info.name, name);
    if (strcmp(c.why, why) != 0) fail_msg("found \"%s\", expected \"%s\"", c.why, why);
}

static void assert_place_note(const peri_rig *rig, uint64_t bytes, const char *wanted,
                              const char *name, const char *expected) {
    peri_reads reads = {.bytes = bytes};
    peri_choice c;
    peri_error err = {0};
    char why[300];
    assert_ok(peri_place_choose(rig->registry, &reads, wanted, &c, &err), err);
    peri_place_note(rig->registry, &c, rig_device(rig, name), &reads, why, sizeof why);
    if (strcmp(why, expected) != 0) fail_msg("found \"%s\", expected \"%s\"", why, expected);
}

static void assert_no_choice(const peri_rig *rig, uint64_t bytes, const char *wanted,
                             const char *fragment) {
    peri_reads reads = {.bytes = bytes};
    peri_choice c;
    peri_error err = {0};
    assert_int_equal(peri_place_choose(rig->registry, &reads, wanted, &c, &err), PERI_E_NO_DEVICE);
    assert_error(&err, PERI_E_NO_DEVICE, fragment);
}

static void place_takes_the_only_device(void **state) {
    (void)state;
    peri_rig rig;
    use_machine(&rig, XML("hybrid"), NULL);
    rig_set(&rig, "null.devices", "name=cpu,location=host,native=1");
    rig_look(&rig);
    assert_choice(
        &rig, GB, NULL, "cpu",
        "cpu on host: only device, bandwidth not measured; 2 threads: 2 fast cores; quota none");
    rig_fini(&rig);
}

static void place_takes_one_socket_of_two(void **state) {
    (void)state;
    peri_rig rig;
    peri_backend *b = NULL;
    peri_error err;
    use_machine(&rig, XML("dual_socket"), NULL);
    rig_set(&rig, "null.devices",
            "name=cpu0,location=numa:0,native=1,mem=64e9,gbps=100;name=cpu1,location=numa:1,native="
            "1,mem=64e9,gbps=120");
    rig_look(&rig);
    assert_choice(&rig, 4 * GB, NULL, "cpu1",
                  "cpu1 on numa:1: first of 2: 30 tokens/s predicted (120 GB/s); 4 threads: 4 "
                  "cores of node 1; quota none");
    assert_place_note(&rig, 4 * GB, NULL, "cpu0",
                      "slower than cpu1: 25 tokens/s predicted (100 GB/s) against 30 tokens/s "
                      "predicted (120 GB/s)");
    /* Its threads are those of its node only. */
    assert_ok(peri_registry_open(rig.registry, rig_device(&rig, "cpu1"), &b, &err), err);
    assert_int_equal(peri_pool_workers(b->pool), 4);
    peri_backend_close(b);
    rig_set(&rig, "null.devices",
            "name=cpu0,location=numa:0,native=1;name=cpu1,location=numa:1,native=1");
    rig_look(&rig);
    assert_choice(
        &rig, 0, NULL, "cpu0",
        "cpu0 on numa:0: first of 2: bandwidth unknown; 4 threads: 4 cores of node 0; quota none");
    assert_place_note(&rig, 0, NULL, "cpu1",
                      "nothing tells it from cpu0, which is listed first: bandwidth unknown");
    rig.n_thread = 3;
    rig_look(&rig);
    assert_ok(peri_registry_open(rig.registry, 1, &b, &err), err);
    assert_int_equal(peri_pool_workers(b->pool), 3);
    peri_backend_close(b);
    rig_fini(&rig);
}

static void place_in_a_slice_uses_its_processors(void **state) {
    (void)state;
    peri_rig rig;
    use_machine(&rig, XML("dual_socket"), "8-11");
    rig_set(&rig, "null.devices", "name=cpu,location=host,native=1");
    rig_look(&rig);
    assert_choice(
        &rig, GB, NULL, "cpu",
        "cpu on host: only device, bandwidth not measured; 2 threads: 2 cores, affinity 4 of 16 "
        "processors; quota none");
    rig_fini(&rig);
}

static void place_ranks_by_bandwidth_memory_and_nature(void **state) {
    (void)state;
    peri_rig rig;
    use_machine(&rig, XML("gpu"), NULL);
    rig_set(&rig, "null.devices", "name=cpu,location=host,native=1,mem=128e9,gbps=80");
    rig_set(&rig, "nil.devices",
            "name=gpu,location=pci:0000:3b:00.0,native=1,mem=24e9,gbps=1000;name=toy,location=soft:"
            "0,gbps=5000");
    rig_look(&rig);
    assert_choice(&rig, 10 * GB, NULL, "gpu",
                  "gpu on pci:0000:3b:00.0: first of 3: 100 tokens/s predicted (1e+03 GB/s); 4 "
                  "threads: 4 cores "
                  "of node 0; quota none");
    assert_place_note(&rig, 10 * GB, NULL, "cpu",
                      "slower than gpu: 8 tokens/s predicted (80 GB/s) against 100 tokens/s "
                      "predicted (1e+03 GB/s)");
    assert_place_note(&rig, 10 * GB, NULL, "toy", "emulated; gpu is native");
    /* Too large for the fastest. */
    assert_choice(&rig, 40 * GB, NULL, "cpu",
                  "cpu on host: only native device; 4 threads: 4 cores of node 0; quota none");
    assert_place_note(&rig, 40 * GB, NULL, "gpu",
                      "not enough memory: needs 38146 MiB, has 22888 MiB");
    rig_set(&rig, "nil.devices", "name=gpu,location=pci:0000:3b:00.0,native=1,mem=24e9,gbps=1000");
    rig_look(&rig);
    assert_no_choice(&rig, 400 * GB, NULL, "no device can be used: cpu: not enough memory");
    rig_fini(&rig);
}

static void place_obeys_the_user(void **state) {
    (void)state;
    peri_rig rig;
    use_machine(&rig, XML("gpu"), NULL);
    rig_add(&rig, rig_plugin("no_driver"));
    rig_set(&rig, "null.devices", "name=cpu,location=host,native=1,mem=128e9,gbps=80");
    rig_set(&rig, "nil.devices",
            "name=gpu0,location=pci:0000:3b:00.0,native=1,mem=24e9,gbps=1000;name=gpu1,location=x,"
            "native=1,mem=48e9,gbps=500");
    rig_look(&rig);
    assert_choice(
        &rig, GB, "cpu", "cpu",
        "cpu on host: asked for; only one of that name; 4 threads: 4 cores of node 0; quota none");
    assert_place_note(&rig, GB, "cpu", "gpu0", "cpu was asked for");
    assert_choice(&rig, GB, "nil", "gpu0",
                  "gpu0 on pci:0000:3b:00.0: asked for; first of 2: 1e+03 tokens/s predicted "
                  "(1e+03 GB/s); 4 threads: "
                  "4 cores of node 0; quota none");
    assert_choice(
        &rig, 30 * GB, "gpu0,nil,cpu", "gpu1",
        "gpu1 on x: asked for; only one of that name; 4 threads: 4 cores of node 0; quota none");
    assert_no_choice(&rig, 30 * GB, "gpu0",
                     "device gpu0: not enough memory: needs 28610 MiB, has 22888 MiB");
    assert_no_choice(&rig, GB, "rocm:0",
                     "device rocm:0: no such device or plugin; there are: cpu, gpu0, gpu1");
    assert_no_choice(&rig, GB, "gpu,what",
                     "libcuda.so.1 not found; what: no such device or plugin");
    rig_fini(&rig);
}

static void place_says_when_there_is_nothing(void **state) {
    (void)state;
    peri_rig rig;
    rig_init(&rig, "core:2 pu:1");
    rig_look(&rig);
    assert_no_choice(&rig, GB, NULL, "no device can be used: no plugin file found, looked in");
    rig_add(&rig, rig_null());
    rig_look(&rig);
    assert_no_choice(&rig, GB, NULL, "null.so: option null.devices names none");
    rig_fini(&rig);
}

static void place_measures_this_machine_only_when_it_must(void **state) {
    (void)state;
    peri_rig rig;
    peri_error err = {0};
    peri_choice c;
    rig_init(&rig, NULL);
    peri_topology_free(rig.topology);
    assert_ok(peri_topology_new(NULL, &rig.topology, &err), err);
    rig_add(&rig, rig_null());
    rig.want_cache = true;
    rig_set(&rig, "null.devices",
            "name=a,location=host,native=1;name=b,location=c,native=1,gbps=0.001");
    rig_look(&rig);
    assert_ok(peri_place_choose(rig.registry, &a_gigabyte, NULL, &c, &err), err);
    assert_int_equal(c.device, rig_device(&rig, "a")); /* any memory is faster than 1 MB/s */
    assert_non_null(strstr(c.why, "first of 2: "));
    assert_non_null(strstr(c.why, "tokens/s predicted"));
    char first[sizeof c.why];
    memcpy(first, c.why, sizeof first);
    rig_look(&rig); /* the figure comes from the cache now, and is the same */
    assert_ok(peri_place_choose(rig.registry, &a_gigabyte, NULL, &c, &err), err);
    assert_string_equal(c.why, first);
    rig_set(&rig, "null.devices", "name=a,location=host,native=1;name=b,location=c,gbps=9");
    rig_look(&rig);
    assert_ok(peri_place_choose(rig.registry, &a_gigabyte, NULL, &c, &err), err);
    assert_non_null(strstr(c.why, "only native device, bandwidth not measured"));
    rig_fini(&rig);
}

/* "gpu0 gpu1 | cpu": to be used, and in reserve. */
static void assert_list(const peri_rig *rig, uint64_t bytes, const char *wanted, const char *want) {
    peri_reads reads = {.bytes = bytes};
    peri_place_list l;
    peri_error err;
    char found[200] = "";
    assert_ok(peri_place_candidates(rig->registry, &reads, wanted, &l, &err), err);
    for (uint32_t k = 0; k < l.n + l.n_reserve; k++) {
        size_t n = strlen(found);
        snprintf(found + n, sizeof found - n, "%s%s%s", k ? " " : "", k == l.n ? "| " : "",
                 peri_registry_device(rig->registry, l.device[k])->info.name);
    }
    assert_string_equal(found, want);
    assert_int_equal(l.choice.device, l.device[0]);
}

/* What is said of names that stand for nothing. */
static void assert_skipped(const peri_rig *rig, const char *wanted, const char *want) {
    peri_place_list l;
    peri_error err;
    assert_ok(peri_place_candidates(rig->registry, &a_gigabyte, wanted, &l, &err), err);
    assert_int_equal(strncmp(l.skipped, want, *want ? strlen(want) : sizeof l.skipped), 0);
}

static void place_lists_devices_for_one_model(void **state) {
    (void)state;
    peri_rig rig;
    use_machine(&rig, XML("gpu"), NULL);
    rig_set(&rig, "null.devices", "name=cpu,location=host,native=1,mem=128e9,gbps=80");
    rig_set(&rig, "nil.devices",
            "name=gpu0,location=pci:0000:3b:00.0,native=1,mem=24e9,gbps=1000;name=gpu1,location=x,"
            "native=1,mem=48e9,gbps=500;name=toy,location=y,gbps=9000");
    rig_look(&rig);
    assert_list(&rig, 10 * GB, NULL, "gpu0 | gpu1 cpu");
    assert_list(&rig, 40 * GB, NULL, "gpu0 gpu1 cpu"); /* gpu1 alone has room, gpu0 is faster */
    assert_list(&rig, 140 * GB, NULL, "gpu0 gpu1 cpu");
    assert_list(&rig, 140 * GB, "cpu,gpu1", "cpu gpu1");
    assert_list(&rig, 10 * GB, "gpu1", "gpu1");
    assert_list(&rig, 10 * GB, "nil,cpu,what", "gpu0 cpu");
    assert_skipped(&rig, "nil,cpu,what", "what: no such device or plugin; there are: cpu, gpu0");
    assert_skipped(&rig, "cpu,cpu", "cpu: named once more than there are devices of that name");
    assert_skipped(&rig, "gpu0,cpu", "");
    assert_list(&rig, 10 * GB, "gpu0,nil,nil,nil", "gpu0 gpu1 toy");
    rig_set(&rig, "null.devices", NULL);
    rig_set(&rig, "nil.devices",
            "name=gpu0,location=x,native=1,mem=24e9,gbps=1000;name=toy,location=y,gbps=90");
    rig_look(&rig);
    assert_list(&rig, 40 * GB, NULL, "toy | gpu0"); /* the only native one has no room for all */
    peri_split_device f = peri_place_figures(rig.registry, rig_device(&rig, "gpu0"), &a_gigabyte);
    assert_true(f.room == 24 * GB && f.gbps == 1000 && f.copy_us > 0 && f.link_gbps > 0);
    rig_fini(&rig);
}

static void place_lists_slices_and_memories(void **state) {
    (void)state;
    peri_rig rig;
    use_machine(&rig, XML("gpu"), NULL);
    rig_add(&rig, rig_plugin("no_driver"));
    rig_set(&rig, "null.devices", "name=cpu,location=host,native=1,mem=128e9,gbps=80");
    rig_set(&rig, "nil.devices", NULL); /* the GPU has no driver */
    rig_look(&rig);
    assert_list(&rig, 40 * GB, NULL, "cpu");
    rig_set(&rig, "nil.devices", /* two slices of one GPU are two devices */
            "name=g#0,location=pci:0000:3b:00.0#0,native=1,mem=10e9,gbps=400;"
            "name=g#1,location=pci:0000:3b:00.0#1,native=1,mem=10e9,gbps=400");
    rig_look(&rig);
    assert_list(&rig, 15 * GB, NULL, "g#0 g#1 cpu");
    assert_list(&rig, 5 * GB, NULL, "g#0 | g#1 cpu");
    rig_fini(&rig);
    use_machine(&rig, XML("hbm"), NULL);
    rig_set(&rig, "null.devices",
            "name=ddr,location=numa:0,native=1,mem=128e9,gbps=100;"
            "name=hbm,location=numa:1,native=1,mem=16e9,gbps=400");
    rig_look(&rig);
    assert_list(&rig, 30 * GB, NULL, "hbm ddr");
    rig_fini(&rig);
    use_machine(&rig, XML("hybrid"), NULL);
    rig_set(&rig, "null.devices", "name=cpu,location=host,native=1,mem=16e9");
    rig_set(&rig, "nil.devices", "name=igpu,location=pci:0000:00:02.0,native=1,mem=4e9");
    rig_look(&rig);
    assert_list(&rig, 8 * GB, NULL, "cpu | igpu"); /* no speed is known */
    rig_fini(&rig);
}

static void place_lists_eight(void **state) {
    (void)state;
    peri_rig rig;
    char devices[900] = "";
    use_machine(&rig, XML("dual_socket"), NULL);
    for (int i = 0; i < 8; i++) {
        size_t n = strlen(devices);
        snprintf(devices + n, sizeof devices - n,
                 "%sname=gpu%d,location=pci:0000:%02x:00.0,native=1,mem=24e9,gbps=1000",
                 i ? ";" : "", i, 16 + i);
    }
    rig_set(&rig, "nil.devices", devices);
    rig_set(&rig, "null.devices", "name=cpu,location=host,native=1,mem=512e9,gbps=200");
    rig_look(&rig);
    assert_list(&rig, 150 * GB, NULL, "gpu0 gpu1 gpu2 gpu3 gpu4 gpu5 gpu6 gpu7 cpu");
    assert_list(&rig, 20 * GB, NULL, "gpu0 | gpu1 gpu2 gpu3 gpu4 gpu5 gpu6 gpu7 cpu");
    rig_fini(&rig);
}

static void place_survives_lack_of_memory(void **state) {
    (void)state;
    static const char *const wishes[] = {NULL, "nothing", "a"};
    peri_rig rig;
    rig_init(&rig, "core:2 pu:1");
    peri_topology_free(rig.topology);
    rig.topology = NULL;
    peri_fault *f = peri_fault_alloc_install();
    peri_topology_options o = {.size = sizeof o, .synthetic = "core:2 pu:1"};
    peri_error err = {0};
    assert_ok(peri_topology_new(&o, &rig.topology, &err), err);
    rig_add(&rig, rig_null());
    rig_set(&rig, "null.devices", "name=a;name=b");
    rig_look(&rig);
    uint64_t held = f->live;
    for (int w = 0; w < 3; w++)
        for (uint64_t n = 1;; n++) {
            peri_choice c;
            f->calls = 0;
            f->fail_at = n;
            peri_status status = peri_place_choose(rig.registry, &a_gigabyte, wishes[w], &c, &err);
            bool is_past_end = f->calls < n;
            f->fail_at = 0;
            assert_true(status == PERI_OK || status == PERI_E_NOMEM ||
                        (w == 1 && status == PERI_E_NO_DEVICE));
            assert_int_equal(f->live, held);
            if (is_past_end) break;
        }
    peri_registry_free(rig.registry);
    rig.registry = NULL;
    peri_topology_free(rig.topology);
    rig.topology = NULL;
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
    rig_fini(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(place_takes_the_only_device),
        cmocka_unit_test(place_takes_one_socket_of_two),
        cmocka_unit_test(place_in_a_slice_uses_its_processors),
        cmocka_unit_test(place_ranks_by_bandwidth_memory_and_nature),
        cmocka_unit_test(place_obeys_the_user),
        cmocka_unit_test(place_says_when_there_is_nothing),
        cmocka_unit_test(place_measures_this_machine_only_when_it_must),
        cmocka_unit_test(place_lists_devices_for_one_model),
        cmocka_unit_test(place_lists_slices_and_memories),
        cmocka_unit_test(place_lists_eight),
        cmocka_unit_test(place_survives_lack_of_memory),
    };
    return peri_run_tests(tests);
}
