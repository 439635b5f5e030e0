/* SPDX-License-Identifier: Apache-2.0 */
/* The most probable next token after each token of a text: evaluation without sampling.
 *
 *   cc logits.c $(pkg-config --cflags --libs puna) -o logits
 *   ./logits model.gguf "The capital of France is" */
#include <puna.h>
#include <stdio.h>
#include <string.h>

/* logits are valid during the call only. */
static int print_best(void *user, int32_t position, const float *logits, int32_t n_vocab)
{
    const puna_model *model = user;
    int32_t best = 0;
    for (int32_t i = 1; i < n_vocab; i++) {
        if (logits[i] > logits[best])
            best = i;
    }
    size_t len = 0;
    const char *piece = puna_token_bytes(model, best, &len);
    printf("%d\t%d\t%.4f\t%.*s\n", (int)position, (int)best, (double)logits[best], (int)len,
           piece ? piece : "");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL TEXT\n", argv[0]);
        return 2;
    }
    struct puna_error err = { 0 };
    puna_model *model = NULL;
    puna_session *session = NULL;
    int rc = puna_model_open(&model, argv[1], NULL, &err);
    if (rc == 0)
        rc = puna_session_open(&session, model, NULL, &err);
    if (rc == 0) {
        struct puna_model_info info = { .size = sizeof(info) };
        puna_model_get_info(model, &info);
        rc = puna_session_tokens(session, &info.bos, 1, &err);
    }
    if (rc == 0)
        rc = puna_session_text(session, argv[2], strlen(argv[2]), 0, &err);
    if (rc == 0)
        rc = puna_session_eval(session, print_best, model, &err);
    if (rc != 0)
        fprintf(stderr, "%s\n", err.message);
    puna_session_close(&session);
    puna_model_close(&model);
    return rc == 0 ? 0 : 1;
}
