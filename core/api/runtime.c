/* SPDX-License-Identifier: MIT
 *
 * runtime.c - the runtime object: topology, plugins, settings, where scripts are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_int.h"
#include "base/alloc.h"
#include "base/io.h"
#include "base/log.h"
#include "base/status.h"
#include "check/check.h"
#include "model/dtype.h"
#include "run/calibrate.h"

#include "base/compiler.h"

const char *peri_version(void) {
    return PERI_VERSION;
}

void peri_text_free(void *p) {
    peri_free(p);
}

void peri_options_copy(void *dst, size_t dst_size, const void *src) {
    uint32_t size;
    memset(dst, 0, dst_size);
    if (!src) return;
    memcpy(&size, src, sizeof size);
    memcpy(dst, src, size < dst_size ? size : dst_size);
}

/* Folder of the shared object (or program) that holds this function; NULL when out of memory. */
static char *find_library_dir(void) {
    Dl_info info;
    if (!dladdr((void *)(uintptr_t)&find_library_dir, &info) || !info.dli_fname) return NULL;
    char *real = realpath(info.dli_fname, NULL); /* by the C library: freed with free */
    if (!real) return NULL;
    char *slash = strrchr(real, '/');
    char *dir = peri_str_dup((peri_str){real, slash ? (size_t)(slash - real) : 0});
    free(real);
    return dir;
}

/* "cpu.isa" from the settings; the registry looks into the environment. */
static const char *setting(void *user, const char *key) {
    peri_runtime *rt = user;
    const char *value = NULL; /* the last one given */
    size_t n = strlen(key);
    for (size_t i = 0; i < rt->n_setting; i++) {
        const char *s = rt->setting[i];
        if (strncmp(s, key, n) != 0 || s[n] != '=') continue;
        atomic_store(&rt->is_done[i], true);
        value = s + n + 1;
    }
    return value;
}

static peri_status copy_settings(peri_runtime *rt, const peri_runtime_options *o, peri_error *err) {
    rt->setting = peri_calloc(o->n_setting + 1, sizeof *rt->setting);
    rt->is_done = peri_calloc(o->n_setting + 1, sizeof *rt->is_done);
    if (!rt->setting || !rt->is_done) return peri_fail(err, PERI_E_NOMEM, "out of memory");
    for (size_t i = 0; i < o->n_setting; i++) {
        const char *eq = strchr(o->settings[i], '=');
        if (!eq || eq == o->settings[i])
            return peri_fail(err, PERI_E_INVALID, "setting \"%s\": expected key=value",
                             o->settings[i]);
        rt->setting[i] = peri_str_dup(peri_str_of(o->settings[i]));
        if (!rt->setting[i]) return peri_fail(err, PERI_E_NOMEM, "out of memory");
        rt->n_setting++;
    }
    return PERI_OK;
}

/* Once the devices of a model are open; each setting is told once. */
static peri_status check_settings(void *user, peri_error *err) {
    peri_runtime *rt = user;
    for (size_t i = 0; i < rt->n_setting; i++) {
        const char *s = rt->setting[i];
        int n = (int)(strchr(s, '=') - s);
        if (rt->is_strict && !atomic_load(&rt->is_done[i]))
            return peri_fail(err, PERI_E_INVALID,
                             "--strict: setting %.*s: no plugin has asked for it", n, s);
        if (!atomic_exchange(&rt->is_done[i], true))
            peri_log(PERI_LOG_WARN, "setting %.*s has no effect so far: no plugin has asked for it",
                     n, s);
    }
    return PERI_OK;
}

static peri_status find_scripts(peri_runtime *rt, const char *wanted, const char *lib,
                                peri_error *err) {
    rt->script_dir =
        wanted ? peri_str_dup(peri_str_of(wanted)) : peri_strf("%s/%s", lib, PERI_DATA_FROM_LIB);
    return rt->script_dir ? PERI_OK
                          : peri_fail(err, PERI_E_NOMEM, "out of memory finding the scripts");
}

static peri_status find_plugins(peri_runtime *rt, const peri_runtime_options *o, const char *lib,
                                peri_error *err) {
    peri_status st = peri_topology_new(NULL, &rt->topology, err);
    if (st) return st;
    peri_registry_options ro = {.size = sizeof ro,
                                .topology = rt->topology,
                                .files = o->plugin_files,
                                .n_file = o->n_plugin_file,
                                .library_dir = lib,
                                .n_thread = o->n_thread,
                                .option = setting,
                                .option_user = rt,
                                .is_pinned = o->is_pinned || o->is_strict,
                                .measure = peri_calibrate};
    return peri_registry_new(&ro, &rt->registry, err);
}

peri_status peri_runtime_new_in(const peri_runtime_options *opts, const char *library_dir,
                                peri_runtime **out, peri_error *err) {
    peri_runtime_options o;
    *out = NULL;
    peri_options_copy(&o, sizeof o, opts);
    peri_runtime *rt = peri_calloc(1, sizeof *rt);
    char *lib = library_dir ? peri_str_dup(peri_str_of(library_dir)) : find_library_dir();
    peri_status st = rt && lib ? PERI_OK : peri_fail(err, PERI_E_NOMEM, "out of memory");
    if (!st) {
        peri_log_set(o.message, o.message_user);
        rt->is_strict = o.is_strict;
        st = copy_settings(rt, &o, err);
    }
    if (!st) st = find_scripts(rt, o.script_dir, lib, err);
    if (!st) st = find_plugins(rt, &o, lib, err);
    if (!st) {
        rt->check_program = peri_strf("%s/perigee/0/perigee-check", lib);
        if (!rt->check_program) st = peri_fail(err, PERI_E_NOMEM, "out of memory");
    }
    peri_free(lib);
    if (st) {
        peri_runtime_free(rt);
        return st;
    }
    *out = rt;
    return PERI_OK;
}

peri_status peri_runtime_new(const peri_runtime_options *opts, peri_runtime **out,
                             peri_error *err) {
    return peri_runtime_new_in(opts, NULL, out, err);
}

void peri_runtime_free(peri_runtime *rt) {
    if (!rt) return;
    peri_signal_free(rt->interrupt);
    peri_registry_free(rt->registry);
    peri_topology_free(rt->topology);
    for (size_t i = 0; i < rt->n_setting; i++)
        peri_free(rt->setting[i]);
    peri_free(rt->setting);
    peri_free(rt->is_done);
    peri_free(rt->script_dir);
    peri_free(rt->check_program);
    peri_free(rt);
}

peri_load_env peri_runtime_load_env(peri_runtime *rt, peri_spec_source *source) {
    *source = (peri_spec_source){rt->script_dir};
    return (peri_load_env){.topology = rt->topology,
                           .registry = rt->registry,
                           .load_arch = peri_lua_arch_load,
                           .load_arch_user = source,
                           .check_settings = check_settings,
                           .check_settings_user = rt,
                           .is_strict = rt->is_strict};
}

peri_status peri_runtime_devices(const peri_runtime *rt, char **json, peri_error *err) {
    return peri_registry_to_json(rt->registry, json, err);
}

/* Types that most model files are made of; a device keeps those it was measured for before. */
peri_status peri_runtime_calibrate(peri_runtime *rt, peri_error *err) {
    static const uint32_t common[] = {PERI_DT_Q4_0, PERI_DT_Q4_K, PERI_DT_Q8_0, PERI_DT_F16};
    enum { N_COMMON = sizeof common / sizeof *common };
    if (peri_registry_is_declared(rt->registry))
        return peri_fail(err, PERI_E_INVALID,
                         "nothing is measured: setting place.figures is \"declared\"");
    for (size_t i = 0; i < peri_registry_n_device(rt->registry); i++) {
        const peri_figures *f = peri_registry_figures(rt->registry, i);
        uint32_t dtype[N_COMMON + PERI_FIGURE_TYPES], n = 0;
        for (uint32_t k = 0; k < f->n_type; k++)
            dtype[n++] = f->type[k].dtype;
        for (uint32_t k = 0; k < N_COMMON; k++)
            if (!peri_figures_type(f, common[k])) dtype[n++] = common[k];
        uint32_t first = n > PERI_FIGURE_TYPES ? n - PERI_FIGURE_TYPES : 0;
        peri_registry_measure(rt->registry, i, NULL, dtype + first, n - first, true);
        if (!peri_registry_device(rt->registry, i)->is_usable || !*f->why) continue;
        peri_log(PERI_LOG_WARN, "device %s was not measured: %s",
                 peri_registry_device(rt->registry, i)->info.name, f->why);
    }
    return PERI_OK;
}

peri_status peri_runtime_arch(const peri_runtime *rt, const char *name, char **text,
                              peri_error *err) {
    const peri_spec_source s = {rt->script_dir};
    return peri_lua_arch_text(&s, name, text, err);
}

peri_status peri_plugin_check(const peri_runtime *rt, const char *file,
                              const peri_plugin_check_options *opts, char **json, bool *passed,
                              peri_error *err) {
    peri_plugin_check_options o;
    peri_options_copy(&o, sizeof o, opts);
    peri_check_options co = {.program = rt->check_program,
                             .plugin = file,
                             .setting = (const char *const *)rt->setting,
                             .n_setting = rt->n_setting,
                             .only = o.only,
                             .n_only = o.n_only,
                             .skip = o.skip,
                             .n_skip = o.n_skip,
                             .op = o.op,
                             .type = o.type,
                             .is_bench = o.is_bench,
                             .is_small = o.is_small,
                             .seconds = o.seconds,
                             .device = o.device,
                             .timeout_ms = o.timeout_ms};
    return peri_check_run(&co, json, passed, err);
}
