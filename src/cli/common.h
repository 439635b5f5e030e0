/* SPDX-License-Identifier: Apache-2.0 */
/* Option groups that several commands have, and what is done with them. */
#ifndef PN_CLI_COMMON_H
#define PN_CLI_COMMON_H

#include <jansson.h>
#include <puna.h>

#include "cli/cli.h"
#include "cli/opts.h"
#include "cli/term.h"

/* ------------------------------------------------------------------------------------- the model */

struct model_settings {
    const char *name, *projector, *cpu;
    int64_t threads;
    int cross_rows; /* index into cross_rows_names */
    struct opt_list lora;
    bool no_progress;
};

extern const char *const cross_rows_names[];

#define OPTS_MODEL_NAME(T)                                                                         \
    OPT_ROW(T, model.name, OPT_STRING, "model", 'm', "MODEL",                                      \
            "Hugging Face directory, .gguf file, or Ollama name such as llama3.2-vision.",         \
            .dflt = "the demonstration model"),                                                    \
    OPTS_PROJECTOR(T)
#define OPTS_PROJECTOR(T)                                                                          \
    OPT_ROW(T, model.projector, OPT_STRING, "projector", 0, "FILE",                                \
            "The projector's .gguf file, for models that Ollama before 0.7 kept in two files.",    \
            .dflt = ""),                                                                           \
    OPT_ROW(T, model.cross_rows, OPT_CHOICE, "cross-rows", 0, "ORDER",                             \
            "Order of the cross-attention query and key rows in a GGUF file: permuted, as "        \
            "Ollama's converters write them, or plain. A file does not say.",                      \
            .choices = cross_rows_names, .dflt = "permuted"),                                      \
    OPT_ROW(T, model.lora, OPT_LIST, "lora", 0, "DIR[:SCALE]",                                     \
            "Apply a LoRA adapter, the directory that PEFT saves; several are added up. SCALE "    \
            "multiplies the adapter's own.", .dflt = "")
#define OPTS_MACHINE(T)                                                                            \
    OPT_ROW(T, model.threads, OPT_INT, "threads", 't', "N", "Threads.",                            \
            .dflt = "PUNA_THREADS, else the CPUs this process may use", .min = 1, .max = 1024),    \
    OPT_ROW(T, model.cpu, OPT_STRING, "cpu", 0, "NAME",                                            \
            "Kernel tier; 'puna doctor' lists them. An absent tier is an error.",                  \
            .dflt = "PUNA_CPU, else the best"),                                                    \
    OPT_FLAG_ROW(T, model.no_progress, "no-progress", 0,                                           \
                 "No progress line on the terminal. There is never one in a pipe.")

/* Open it with a progress line; EXIT_OK or a told failure. */
int model_open(puna_model **out, const struct model_settings *s);
/* model_open's parameters but for the adapters, for commands that need their own call. */
void model_params(struct puna_model_params *p, const struct model_settings *s);
/* --lora as the library takes it: an array of s->lora.n, to be freed by loras_free in every case. */
int loras_parse(struct puna_lora **out, const struct model_settings *s);
void loras_free(struct puna_lora *loras, size_t n);
struct puna_model_info model_info(const puna_model *m);

/* ------------------------------------------------------------------------------------- the session */

struct session_settings {
    int64_t ctx, chunk, max_pixels;
    int kv_type; /* enum puna_kv_type */
    bool precise, hf_rows, full_tiles, keep_orientation;
};

extern const char *const kv_type_names[]; /* in the order of enum puna_kv_type */

#define OPTS_CONTEXT(T)                                                                            \
    OPT_ROW(T, session.ctx, OPT_INT, "ctx", 0, "N", "Context in tokens: prompt and answer.",       \
            .dflt = "4096, or what the model was trained for if less", .min = 1,                   \
            .max = INT32_MAX),                                                                     \
    OPT_ROW(T, session.kv_type, OPT_CHOICE, "kv-type", 0, "TYPE",                                  \
            "Number format of the keys and values kept: f16, f32, bf16 or q8_0.",                  \
            .choices = kv_type_names)
#define OPTS_PRECISE(T)                                                                            \
    OPT_FLAG_ROW(T, session.precise, "precise", 0,                                                 \
                 "Activations, keys and values stay f32: nothing is rounded to int8 or bf16 on "   \
                 "the way. Slow; for verification.")
#define OPTS_PICTURES(T)                                                                           \
    OPT_FLAG_ROW(T, session.keep_orientation, "keep-orientation", 0,                               \
                 "Do not turn pictures upright as their EXIF orientation says."),                  \
    OPT_ROW(T, session.max_pixels, OPT_INT, "max-pixels", 0, "N", "Refuse larger pictures.",       \
            .dflt = "67108864", .min = 1, .max = 4294967296.0)

void session_params(struct puna_session_params *p, const struct session_settings *s);
struct puna_image_params image_params(const struct session_settings *s);

/* ------------------------------------------------------------------------------------- odds and ends */

/* "7.8 GB", "512 B": decimal units */
void format_bytes(char *out, size_t cap, double bytes);
/* Length of the well-formed UTF-8 character at s[0..n), n > 0; 0 if there is none. */
size_t utf8_length(const char *s, size_t n);
/* A JSON string of bytes that may not be UTF-8: what is broken becomes U+FFFD. */
json_t *json_lossy(const char *s, size_t n);
/* The value and a newline to stdout; releases it. EXIT_FAILED when it is NULL (no memory). */
int print_json(json_t *value);
const char *path_base(const char *path);

#endif
