/* SPDX-License-Identifier: MIT
 *
 * target.h - from the common options to a runtime and an open model, with messages, progress and
 * Ctrl-C. */
#ifndef PERI_APP_TARGET_H
#define PERI_APP_TARGET_H

#include "opts.h"
#include "perigee/perigee.h"

typedef struct peri_target {
    peri_runtime *rt;
    peri_model *model;
    double load_s; /* time peri_model_open took */
} peri_target;

/* A runtime as the common options ask.  Reports its error and returns false. */
bool peri_target_runtime(const peri_common *c, peri_target *t);
/* A runtime and the model at `path`, which may be the name of a model in a store; options may be
 * NULL (then metadata only).  Device and progress
 * are filled in here. */
bool peri_target_open(const peri_common *c, const char *path, const peri_model_options *options,
                      peri_target *t);
/* Is there a model of that name in a store?  Says nothing when there is none. */
bool peri_target_is_stored(const peri_target *t, const char *name);
void peri_target_close(peri_target *t);
/* CPU threads in use as the runtime tells, 0 when it does not. */
int64_t peri_target_threads(const peri_common *c, const peri_target *t);

/* From here on the first Ctrl-C only sets a flag, and a second one kills. */
void peri_interrupt_catch(void);
bool peri_interrupt_seen(void);

/* What the target of a command is, judged before anything is started. */
typedef enum peri_kind {
    PERI_KIND_NONE,
    PERI_KIND_MODEL,
    PERI_KIND_SCRIPT,
    PERI_KIND_MODELFILE, /* any file that is neither */
    PERI_KIND_NAME /* no file here: a driver in Lua knows the names there are, of assistants and
                      of models in stores */
} peri_kind;
/* NONE after saying what is wrong with `path` and what would help. */
peri_kind peri_target_kind(const char *path);
/* May the word be a name?  Not what looks like a path: ./x, /x, ~/x, x.gguf, x.lua. */
bool peri_target_is_name(const char *word);
/* "model", "script", "modelfile", "name", as drivers in Lua call them. */
const char *peri_kind_name(peri_kind kind);

/* All of a stream, NUL-terminated; false after an error was reported.  The caller frees *text. */
bool peri_read_all(FILE *from, const char *name, char **text, size_t *size);
bool peri_read_file(const char *path, char **text, size_t *size);

#endif
