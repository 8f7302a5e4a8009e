/* SPDX-License-Identifier: MIT
 *
 * cmd_logits.c - perigee logits: the numbers themselves, for comparing runtimes and for tests of
 * sameness.
 *
 * The sequence is computed in slices and each slice's rows are written as they come, so that memory
 * is bounded by the slice. The file appears under its name only when it is complete. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd.h"
#include "out.h"
#include "target.h"

typedef struct logits_opts {
    const char *model, *tokens, *tokens_file, *out;
    int64_t chunk, batch, n_ctx;
    int kv;
} logits_opts;

#define OFF(member) offsetof(logits_opts, member)
// clang-format off
static const peri_opt table[] = {
    {"model", 'm', PERI_OPT_TEXT, "MODEL", OFF(model), 0, 0, "A GGUF file, or the name of a model (see perigee list)."},
    {"tokens", 0, PERI_OPT_TEXT, "IDS", OFF(tokens), 0, 0, "Token ids, separated by commas."},
    {"tokens-file", 0, PERI_OPT_TEXT, "FILE", OFF(tokens_file), 0, 0,
     "Read the ids from FILE, separated by commas or white space."},
    {"output", 'o', PERI_OPT_TEXT, "OUT", OFF(out), 0, 0, "The file to write."},
    {"chunk", 0, PERI_OPT_INT, "N", OFF(chunk), 1, 1 << 20,
     "Compute N tokens at a time. Default: 512, fewer where the rows would take much memory."},
    {"batch", 0, PERI_OPT_INT, "N", OFF(batch), 1, 256,
     "Decode N copies of the sequence together, write the first, and fail if any bit of another differs."},
    {"ctx", 0, PERI_OPT_INT, "N", OFF(n_ctx), 1, 1 << 30,
     "Tokens of context, where the model computes differently for long ones. Default: those given."},
    {"ctx", 0, PERI_OPT_INT, "N", OFF(n_ctx), 1, 1 << 30,
     "Tokens of context, which some models' position encoding depends on. Default: the length of the sequence."},
    {"kv", 0, PERI_OPT_CHOICE, "f32|f16|q8_0|q4_0", OFF(kv), 0, 0, "Type of the stored keys and values. Default f32."},
};
// clang-format on
enum { SLICE = 512, MAX_COPY = 256, ROWS_MIB = 256 };

static void set_defaults(void *values) {
    logits_opts *o = values;
    o->batch = 1;
}

/* ---- tokens -------------------------------------------------------------------------------------
 */

typedef struct tokens {
    int32_t *id;
    size_t n;
} tokens;

/* Ids may be any number here; the model knows its vocabulary. */
static bool parse_tokens(const char *text, tokens *t) {
    size_t room = strlen(text) / 2 + 1;
    t->id = calloc(room, sizeof *t->id);
    if (t->id == NULL) return peri_out_fail("out of memory for %zu tokens", room), false;
    for (const char *s = text;;) {
        s += strspn(s, " \t\r\n,");
        if (*s == 0) return true;
        char *end;
        size_t word = strcspn(s, " \t\r\n,");
        errno = 0;
        long v = strtol(s, &end, 10);
        if (end != s + word || errno || v < 0 || v > INT32_MAX)
            return peri_out_fail("token %zu at byte %zu: found '%.*s', expected a token id", t->n,
                                 (size_t)(s - text), (int)(word < 40 ? word : 40), s),
                   false;
        t->id[t->n++] = (int32_t)v;
        s = end;
    }
}

static bool read_tokens(const logits_opts *o, tokens *t) {
    char *text = NULL;
    size_t size;
    bool ok = o->tokens ? parse_tokens(o->tokens, t)
                        : peri_read_file(o->tokens_file, &text, &size) && parse_tokens(text, t);
    free(text);
    if (ok && t->n == 0) return peri_out_fail("no tokens given"), false;
    return ok;
}

/* ---- the file -----------------------------------------------------------------------------------
 */

/* A file that gets its name when it is complete; a name that exists and is no regular file (a pipe,
 * /dev/null) is written directly. */
typedef struct outfile {
    const char *path;
    char *temporary; /* NULL: written directly */
    FILE *f;
} outfile;

static bool outfile_open(outfile *f, const char *path) {
    struct stat st;
    memset(f, 0, sizeof *f);
    f->path = path;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        f->f = fopen(path, "wb");
    } else {
        size_t n = strlen(path) + sizeof ".XXXXXX";
        int fd = -1;
        f->temporary = malloc(n);
        if (f->temporary) {
            snprintf(f->temporary, n, "%s.XXXXXX", path);
            fd = mkstemp(f->temporary);
        }
        if (fd >= 0) {
            mode_t mask = umask(0);
            umask(mask);
            if (fchmod(fd, 0666 & ~mask) == 0) f->f = fdopen(fd, "wb");
        }
    }
    if (f->f) return true;
    peri_out_fail("%s: cannot create: %s", path, strerror(errno));
    free(f->temporary);
    return false;
}

/* Give the file its name, or remove it.  Returns whether it is there and complete. */
static bool outfile_close(outfile *f, bool is_complete) {
    bool ok = is_complete && fflush(f->f) == 0 && !ferror(f->f);
    if (ok && f->temporary) ok = fsync(fileno(f->f)) == 0;
    int error = errno;
    if (fclose(f->f) != 0 && ok) {
        error = errno;
        ok = false;
    }
    if (ok && f->temporary && rename(f->temporary, f->path) != 0) {
        error = errno;
        ok = false;
    }
    if (is_complete && !ok) peri_out_fail("%s: cannot write: %s", f->path, strerror(error));
    if (!ok && f->temporary) unlink(f->temporary);
    free(f->temporary);
    return ok;
}

/* Little-endian on every machine. */
static bool write_rows(outfile *f, const float *x, size_t n) {
    const union {
        uint16_t word;
        uint8_t byte[2];
    } probe = {1};
    size_t done = 0;
    if (probe.byte[0] == 1) {
        done = fwrite(x, sizeof *x, n, f->f);
    } else {
        for (; done < n; done++) {
            uint32_t u;
            memcpy(&u, &x[done], sizeof u);
            u = __builtin_bswap32(u);
            if (fwrite(&u, sizeof u, 1, f->f) != 1) break;
        }
    }
    if (done != n) peri_out_fail("%s: cannot write: %s", f->path, strerror(errno));
    return done == n;
}

/* ---- the work -----------------------------------------------------------------------------------
 */

typedef struct job {
    const logits_opts *o;
    const tokens *tok;
    peri_model *model;
    peri_session *session[MAX_COPY];
    float *rows; /* [batch][slice][n_vocab] */
    size_t n_copy, slice, n_vocab;
    outfile *file;
} job;

/* Rows of every copy against copy 0. */
static bool check_copies(const job *j, size_t first, size_t n) {
    size_t room = j->slice * j->n_vocab;
    for (size_t c = 1; c < j->n_copy; c++)
        for (size_t r = 0; r < n; r++) {
            const float *a = j->rows + r * j->n_vocab, *b = a + c * room;
            if (memcmp(a, b, j->n_vocab * sizeof *a) == 0) continue;
            size_t i = 0;
            while (memcmp(a + i, b + i, sizeof *a) == 0)
                i++;
            return peri_out_fail("copy %zu differs from copy 0: position %zu, token %zu: %.9g, "
                                 "expected %.9g",
                                 c, first + r, i, (double)b[i], (double)a[i]),
                   false;
        }
    return true;
}

static bool compute(job *j) {
    peri_feed feeds[MAX_COPY];
    peri_error e = {0, ""};
    for (size_t i = 0; i < j->tok->n; i += j->slice) {
        size_t n = j->tok->n - i < j->slice ? j->tok->n - i : j->slice;
        for (size_t c = 0; c < j->n_copy; c++)
            feeds[c] = (peri_feed){.session = j->session[c],
                                   .tok = j->tok->id + i,
                                   .n_tok = n,
                                   .logits = j->rows + c * j->slice * j->n_vocab,
                                   .all_logits = true};
        if (peri_model_step(j->model, feeds, j->n_copy, n, &e) != PERI_OK) {
            peri_out_error(&e);
            return false;
        }
        if (!check_copies(j, i, n) || !write_rows(j->file, j->rows, n * j->n_vocab)) return false;
    }
    return true;
}

static bool open_sessions(job *j) {
    peri_error e = {0, ""};
    for (size_t c = 0; c < j->n_copy; c++)
        if (peri_session_new(j->model, NULL, &j->session[c], &e) != PERI_OK) {
            peri_out_error(&e);
            return false;
        }
    size_t bytes;
    if (__builtin_mul_overflow(j->n_copy * sizeof *j->rows, j->slice, &bytes) ||
        __builtin_mul_overflow(bytes, j->n_vocab, &bytes) || !(j->rows = malloc(bytes)))
        return peri_out_fail("out of memory for %zu rows of %zu logits", j->slice * j->n_copy,
                             j->n_vocab),
               false;
    return true;
}

/* Tokens at a time: as asked, else what keeps the rows of all copies within ROWS_MIB. */
static size_t choose_slice(const logits_opts *o, size_t n_copy, size_t n_vocab, size_t n_tok) {
    size_t slice = o->chunk ? (size_t)o->chunk : SLICE;
    size_t fits = ((size_t)ROWS_MIB << 20) / (sizeof(float) * n_copy * (n_vocab ? n_vocab : 1));
    if (o->chunk == 0 && slice > fits) slice = fits ? fits : 1;
    return slice < n_tok ? slice : n_tok;
}

static int run_logits(const peri_args *args, const logits_opts *o, const tokens *tok) {
    static const uint32_t kv_types[] = {PERI_KV_F32, PERI_KV_F16, PERI_KV_Q8_0, PERI_KV_Q4_0};
    peri_target t;
    outfile file;
    job j = {.o = o, .tok = tok, .n_copy = (size_t)o->batch, .file = &file};
    size_t chunk = o->chunk ? (size_t)o->chunk : SLICE;
    if (chunk > tok->n) chunk = tok->n;
    size_t n_batch = chunk * j.n_copy > SLICE ? chunk * j.n_copy : SLICE;
    peri_model_options mo = {.size = sizeof mo,
                             .n_ctx = o->n_ctx ? (uint32_t)o->n_ctx : (uint32_t)tok->n,
                             .n_session = (uint32_t)o->batch,
                             .n_batch = (uint32_t)n_batch,
                             .kv_type = kv_types[o->kv]};
    if (!peri_target_open(&args->common, o->model, &mo, &t)) return PERI_EXIT_ERROR;
    j.model = t.model;
    j.n_vocab = (size_t)peri_model_n_vocab(t.model);
    j.slice = choose_slice(o, j.n_copy, j.n_vocab, tok->n);
    bool ok = open_sessions(&j) && outfile_open(&file, o->out);
    if (ok) ok = outfile_close(&file, compute(&j));
    for (size_t c = 0; c < j.n_copy; c++)
        if (j.session[c]) peri_session_free(j.session[c]);
    free(j.rows);
    peri_target_close(&t);
    return ok ? PERI_EXIT_OK : PERI_EXIT_ERROR;
}

static int run(const peri_args *args, void *values) {
    const logits_opts *o = values;
    tokens tok = {NULL, 0};
    if (o->model == NULL) return peri_opts_usage("logits", "which model? give -m MODEL");
    if ((o->tokens == NULL) == (o->tokens_file == NULL))
        return peri_opts_usage("logits", "give the tokens with either --tokens or --tokens-file");
    if (o->out == NULL) return peri_opts_usage("logits", "where to? give -o OUT");
    int status = read_tokens(o, &tok) ? run_logits(args, o, &tok) : PERI_EXIT_ERROR;
    free(tok.id);
    return status;
}

const peri_command peri_cmd_logits = {
    .name = "logits",
    .synopsis = "logits -m MODEL (--tokens IDS | --tokens-file FILE) -o OUT [OPTION...]",
    .summary = "write the logits of a token sequence",
    .text =
        "Computes the sequence as given, without adding tokens, and writes the logits of every "
        "position to OUT: "
        "32-bit floats, little-endian, [n_tok][n_vocab]. OUT appears only when it is complete.\n\n"
        "The result does not depend on --chunk, --batch or --threads, bit for bit, on a device "
        "that promises so; "
        "these options exist to check that.",
    .examples =
        "  perigee logits -m model.gguf --tokens 1,15043,29892 -o logits.bin\n"
        "  perigee logits -m model.gguf --tokens-file ids.txt --chunk 1 --batch 4 -o logits.bin\n",
    .opts = table,
    .n_opt = N_OPTS(table),
    .uses = PERI_USES_PLUGINS | PERI_USES_MODEL,
    .value_bytes = sizeof(logits_opts),
    .set_defaults = set_defaults,
    .run = run,
};
