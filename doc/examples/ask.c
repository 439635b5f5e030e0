/* SPDX-License-Identifier: Apache-2.0 */
/* Ask a model about a picture; the answer streams to standard output.
 *
 *   cc ask.c $(pkg-config --cflags --libs puna) -o ask
 *   ./ask llama3.2-vision photo.jpg "What is this?" */
#include <puna.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned char *read_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    unsigned char *bytes = NULL;
    if (f && fseek(f, 0, SEEK_END) == 0) {
        const long size = ftell(f);
        rewind(f);
        bytes = size > 0 ? malloc((size_t)size) : NULL;
        *len = bytes ? fread(bytes, 1, (size_t)size, f) : 0;
    }
    if (f)
        fclose(f);
    return bytes;
}

/* Pieces are whole UTF-8 characters; a non-zero result would end the answer. */
static int print_piece(void *user, const struct puna_piece *piece)
{
    (void)user;
    fwrite(piece->text, 1, piece->text_len, stdout);
    return fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL PICTURE QUESTION\n", argv[0]);
        return 2;
    }
    size_t image_len = 0;
    unsigned char *image = read_file(argv[2], &image_len);
    if (!image) {
        perror(argv[2]);
        return 1;
    }

    struct puna_error err = { 0 };
    puna_model *model = NULL;
    puna_session *session = NULL;
    const struct puna_part parts[] = {
        { .image = image, .image_len = image_len },
        { .text = argv[3], .text_len = strlen(argv[3]) },
    };
    const struct puna_message message = { .role = "user", .parts = parts, .n_parts = 2 };

    /* Each call does nothing but return its error when it fails, so they can be chained. */
    int rc = puna_model_open(&model, argv[1], NULL, &err);
    if (rc == 0)
        rc = puna_session_open(&session, model, NULL, &err);
    if (rc == 0)
        rc = puna_session_chat(session, &message, 1, NULL, &err);
    if (rc == 0) {
        struct puna_gen_params params;
        puna_gen_params_init(&params, model);
        params.max_tokens = 256;
        params.seed = 1;
        struct puna_gen_result result;
        rc = puna_generate(session, &params, print_piece, NULL, &result, &err);
        if (rc == 0)
            fprintf(stderr, "\n%d tokens, first after %.2f s\n", (int)result.n_generated,
                    result.first_token_seconds);
    }
    if (rc != 0)
        fprintf(stderr, "%s\n", err.message);
    puna_session_close(&session);
    puna_model_close(&model);
    free(image);
    return rc == 0 ? 0 : 1;
}
