/* SPDX-License-Identifier: MIT
 *
 * script.c - running scripts as perigee.h offers it. */
#include "api/api_int.h"
#include "base/status.h"
#include "script/lua_script.h"

#include "base/compiler.h"

static peri_status take_runtime(peri_runtime *rt, peri_error *err) {
    bool was_running = false;
    if (!atomic_compare_exchange_strong(&rt->is_script_running, &was_running, true))
        return peri_fail(err, PERI_E_INVALID, "a script runs already on this runtime");
    if (atomic_load(&rt->interrupt)) return PERI_OK;
    peri_signal *s;
    peri_status st = peri_signal_new(&s, err);
    if (st)
        atomic_store(&rt->is_script_running, false);
    else
        atomic_store(&rt->interrupt, s);
    return st;
}

peri_status peri_script_run(peri_runtime *rt, const peri_script_options *opts, int *exit_status,
                            peri_error *err) {
    peri_script_options o;
    peri_spec_source source;
    *exit_status = 1;
    peri_options_copy(&o, sizeof o, opts);
    if (!o.entry) return peri_fail(err, PERI_E_INVALID, "entry is missing");
    peri_status st = take_runtime(rt, err);
    if (st) return st;
    peri_load_env env = peri_runtime_load_env(rt, &source);
    peri_script_setup setup = {.script_dir = rt->script_dir,
                               .env = &env,
                               .interrupt = atomic_load(&rt->interrupt),
                               .version = PERI_VERSION,
                               .entry = o.entry,
                               .arguments = o.arguments,
                               .allow = o.allow,
                               .n_allow = o.n_allow,
                               .max_bytes = o.max_bytes,
                               .slice_ms = o.slice_ms,
                               .seed = o.seed,
                               .user = o.host.user,
                               .write = o.host.write,
                               .read_line = o.host.read_line,
                               .ask = o.host.ask,
                               .progress = o.host.progress,
                               .keep_history = o.host.keep_history};
    st = peri_lua_script_run(&setup, exit_status, err);
    atomic_store(&rt->is_script_running, false);
    peri_signal_take(atomic_load(&rt->interrupt)); /* came when it was over: not the next one's */
    return st;
}

void peri_script_interrupt(peri_runtime *rt) {
    peri_signal *s = atomic_load(&rt->interrupt);
    if (s && atomic_load(&rt->is_script_running)) peri_signal_raise(s);
}
