/* SPDX-License-Identifier: MIT
 *
 * 01_generate.c - complete a prompt: the whole of it.
 *
 *     cc 01_generate.c $(pkg-config --cflags --libs perigee) -o generate
 *     ./generate model.gguf "Once upon a time"
 *
 * Everything is released in the order session, model, runtime; each release accepts NULL, so there
 * is one way out. */
#include <perigee/perigee.h>
#include <stdio.h>
#include <string.h>

enum { N_TOK = 64 };

static int print_piece(void *user, const char *text, size_t size, int32_t tok) {
    (void)user;
    (void)tok;
    fwrite(text, 1, size, stdout);
    return fflush(stdout); /* nonzero ends the generation */
}

int main(int argc, char **argv) {
    peri_error err = {0, ""};
    peri_runtime *runtime = NULL;
    peri_model *model = NULL;
    peri_session *session = NULL;
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL.gguf PROMPT\n", argv[0]);
        return 2;
    }
    peri_session_options options = {
        .size = sizeof options, .seed = 1, .temp = 0.8f, .top_k = 40, .top_p = 0.95f};
    peri_status status = peri_runtime_new(NULL, &runtime, &err);
    if (status == PERI_OK) status = peri_model_open(runtime, argv[1], NULL, &model, &err);
    if (status == PERI_OK) {
        fprintf(stderr, "%s: %s\n", peri_model_device(model), peri_model_placement(model));
        status = peri_session_new(model, &options, &session, &err);
    }
    if (status == PERI_OK)
        status = peri_session_feed_text(session, argv[2], strlen(argv[2]), 0, &err);
    if (status == PERI_OK)
        status = peri_session_generate(session, N_TOK, print_piece, NULL, NULL, &err);
    if (status == PERI_OK)
        putchar('\n');
    else
        fprintf(stderr, "%s: %s\n", argv[0], err.text);

    peri_session_free(session);
    peri_model_close(model);
    peri_runtime_free(runtime);
    return status == PERI_OK ? 0 : 1;
}
