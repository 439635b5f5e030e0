/* SPDX-License-Identifier: Apache-2.0 */
/*
 * puna: Llama 3.2 Vision (and text-only Llama 3.x) on plain CPUs. This header is the manual.
 *
 * OBJECTS
 *   puna_model    weights (memory-mapped), hyper-parameters, tokenizer. Immutable once open: any number
 *                 of sessions and threads may use it at the same time.
 *   puna_session  one conversation: its tokens, KV cache, pictures, sampler. Mutable, one owner: calls on
 *                 one session must not overlap, except puna_session_cancel(), which any thread or signal
 *                 handler may call at any time.
 *
 * ERRORS
 *   A fallible call returns 0 or a negative PUNA_E_* and fills the caller's struct puna_error (NULL is
 *   allowed) with one sentence: what, where, what to do. On failure every out-pointer is NULL and nothing
 *   leaks. The library never prints and never exits.
 *
 * STRUCTS
 *   Parameter structs begin with their size, so that a program and a library of different ages fit
 *   together: fill them with the init function (or set size to sizeof the struct) and change what you
 *   need. New fields come at the end.
 *
 * UNITS   tokens and positions int32_t, bytes size_t, times in seconds (double), sizes of pictures in pixels.
 * STRINGS UTF-8. Text given with a length may contain NUL bytes.
 *
 * A FIRST PROGRAM (error checks left out; doc/examples/ has two complete ones)
 *
 *   struct puna_error err = {0};
 *   puna_model *m; puna_session *s;
 *   puna_model_open(&m, "llama3.2-vision", NULL, &err);
 *   puna_session_open(&s, m, NULL, &err);
 *   struct puna_part parts[2] = { { .image = bytes, .image_len = n_bytes },
 *                                 { .text = "What is this?", .text_len = 13 } };
 *   struct puna_message msg = { .role = "user", .parts = parts, .n_parts = 2 };
 *   puna_session_chat(s, &msg, 1, NULL, &err);
 *   puna_generate(s, NULL, print_piece, NULL, NULL, &err);
 *   puna_session_close(&s); puna_model_close(&m);
 *
 * The mathematics: Meta, "The Llama 3 Herd of Models" (2024), section 7; RoPE: Su et al. 2021;
 * GQA: Ainslie et al. 2023; online softmax: Milakov and Gimelshein 2018, Dao et al. 2022.
 */
#ifndef PUNA_H
#define PUNA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PUNA_API __attribute__((visibility("default")))
#define PUNA_CHECK __attribute__((warn_unused_result))
#else
#define PUNA_API
#define PUNA_CHECK
#endif

/* ------------------------------------------------------------------------------------- errors */

enum puna_status {
    PUNA_OK = 0,
    PUNA_E_ARG = -1,         /* the caller's argument is wrong */
    PUNA_E_NOT_FOUND = -2,   /* no such file, model, tensor */
    PUNA_E_IO = -3,          /* the operating system refused, or a mapped file shrank */
    PUNA_E_FORMAT = -4,      /* a file is broken or not what it claims to be */
    PUNA_E_UNSUPPORTED = -5, /* valid, but not something puna does */
    PUNA_E_MEMORY = -6,      /* does not fit: refused up front, or an allocation failed */
    PUNA_E_LIMIT = -7,       /* over a limit the caller can raise */
    PUNA_E_CANCELLED = -8,   /* puna_session_cancel(), or a callback asked to stop */
    PUNA_E_CONTEXT = -9,     /* the prompt does not fit the context */
    PUNA_E_NUMERIC = -10     /* NaN or Inf in the logits: the weights are damaged */
};

struct puna_error {
    int code;          /* enum puna_status */
    char message[512]; /* one sentence, no newline */
};

/* "0.1.0"; and a line that names compiler, tiers built and options. Static strings. */
PUNA_API const char *puna_version(void);
PUNA_API const char *puna_build_info(void);

/* ------------------------------------------------------------------------------------- model */

typedef struct puna_model puna_model;
typedef struct puna_session puna_session;

/* Progress of long work: phase is "load", "picture", "prefill"; done of total in the phase's own
 * unit (layers, tokens). Called from the calling thread, ten times a second at most and at the end of each
 * phase. Return non-zero to cancel. */
typedef int (*puna_progress_fn)(void *user, const char *phase, double done, double total);

/* A LoRA adapter: the directory that PEFT saves (adapter_config.json, adapter_model.safetensors), for the text
 * layers, the cross-attention layers, the vision encoder and the projector. Applied while computing, in any
 * format of the weights; the weights stay as they are. scale multiplies the adapter's own (1: as trained). */
struct puna_lora {
    const char *path;
    float scale;
};

struct puna_model_params {
    size_t size;           /* sizeof(struct puna_model_params): set by the init function */
    const char *projector; /* Ollama's old split form: the projector .gguf; NULL otherwise */
    const char *cpu;       /* kernel tier by name; NULL: PUNA_CPU from the environment, else the best.
                              An absent tier is an error (PUNA_E_UNSUPPORTED) */
    int threads;           /* 0: PUNA_THREADS, else OMP_NUM_THREADS, else the CPUs this process may use */
    int cross_permuted;    /* split GGUF only: -1 default, 0/1: rows of cross-attention q, k un-/permuted */
    int no_guard;          /* 1: do not install the SIGBUS handler that turns a shrinking file into an error */
    puna_progress_fn progress;
    void *progress_user;
    const struct puna_lora *loras; /* [n_loras] adapters, applied in this order; read during the call */
    size_t n_loras;
};
PUNA_API void puna_model_params_init_sized(struct puna_model_params *p, size_t size);
static inline void puna_model_params_init(struct puna_model_params *p)
{
    puna_model_params_init_sized(p, sizeof *p);
}

/* name: a Hugging Face directory, a .gguf file, an Ollama name ("llama3.2-vision", found in $OLLAMA_MODELS,
 * ~/.ollama/models, /usr/share/ollama/.ollama/models), or NULL: the demonstration model that comes with puna
 * (PUNA_DEMO_MODEL in the environment, else $(pkgdatadir)/models/demo.gguf). params NULL: defaults. */
PUNA_API PUNA_CHECK int puna_model_open(puna_model **out, const char *name,
                                        const struct puna_model_params *params,
                                        struct puna_error *err);
/* No session of the model may be open any more. Nulls the pointer. */
PUNA_API void puna_model_close(puna_model **model);

/* What the model is. Strings belong to the model. */
struct puna_model_info {
    size_t size; /* sizeof(struct puna_model_info): set it before the call */
    const char *path, *format; /* "safetensors", "gguf (combined)", "gguf (split)", "gguf (text)" */
    const char *note;          /* something corrected on loading, or "" */
    const char *tier;          /* kernel tier in use */
    int threads;
    int has_vision, is_chat;   /* is_chat: instruct model, has the chat template's tokens */
    int32_t n_layer, n_cross, d_model, n_head, n_kv_head, head_dim, d_ff, n_vocab, n_ctx_train;
    int32_t tile_size, max_tiles, tokens_per_tile, v_dim, v_layer, v_global, v_head, v_ff;
    int32_t v_out_dim;         /* vision features per token: v_dim * (1 + intermediates) */
    int32_t bos, image_token;
    size_t n_tensors, n_params, file_bytes;
    /* generation defaults of the model */
    float temperature, top_p;
    int32_t top_k;
    int32_t eos[16], n_eos;
    float image_mean[3], image_std[3]; /* pixel_values = (8-bit value / 255 - mean) / std, per channel */
    int vision_int8; /* not with precise: most of the tower's products with float weights are done in int8, for rows
                        that lose little by that */
};
PUNA_API void puna_model_get_info(const puna_model *m, struct puna_model_info *info);

/* One tensor of the file: 0, or PUNA_E_ARG when i is out of range. */
struct puna_tensor_info {
    const char *name, *type; /* "Q4_K" */
    int ndim;
    int64_t shape[4]; /* row-major order: slowest first */
    size_t n_bytes;
};
PUNA_API int puna_model_tensor(const puna_model *m, size_t i, struct puna_tensor_info *out);
/* Copy of a tensor as F32, shape order, into dst[n] (n: its number of elements, checked). */
PUNA_API PUNA_CHECK int puna_model_tensor_read(const puna_model *m, size_t i, float *dst, size_t n,
                                               struct puna_error *err);

/* ------------------------------------------------------------------------------------- text */

/* Token ids of text. special: parse special tokens in it. Writes at most cap ids, returns how many there
 * are (call with cap 0 to count), or a negative error. No BOS is added. */
PUNA_API int64_t puna_tokenize(const puna_model *m, const char *text, size_t len, int special,
                               int32_t *ids, size_t cap, struct puna_error *err);
/* Bytes of one token (not NUL-terminated, may be part of a UTF-8 character); NULL: no such token. */
PUNA_API const char *puna_token_bytes(const puna_model *m, int32_t id, size_t *len);
PUNA_API int puna_token_is_special(const puna_model *m, int32_t id);
/* Id of a special token by name ("<|eot_id|>"), or -1. */
PUNA_API int32_t puna_token_special(const puna_model *m, const char *name);
/* Length of the longest prefix of s that does not end inside a UTF-8 character. */
PUNA_API size_t puna_utf8_complete(const char *s, size_t n);

/* A message is a list of parts; a part is text or a picture (bytes of a JPEG, PNG, WebP, GIF or BMP file). */
struct puna_part {
    const char *text; /* NULL: this part is a picture */
    size_t text_len;
    const void *image;
    size_t image_len;
};
struct puna_message {
    const char *role; /* "system", "user", "assistant", "tool", "ipython" */
    const struct puna_part *parts;
    size_t n_parts;
    int is_list;               /* the content was a list (JSON array) rather than a string; matters to the template
                                  only in the corners where it prints lists */
    const char *tool_name;     /* assistant tool call: function name, or NULL */
    const char *tool_arguments; /* its arguments, a JSON text */
    const char *content_json;  /* "tool"/"ipython": content that is not a string, as JSON text; or NULL */
};
struct puna_chat_opts {
    size_t size; /* sizeof(struct puna_chat_opts) */
    const char *tools_json;        /* JSON array of tools, or NULL */
    const char *date;              /* "26 Jul 2024"; NULL: that date */
    int no_generation_prompt;      /* 1: do not open an assistant turn at the end */
    int tools_in_system;           /* 1: tools in the system block instead of the first user message */
    int system_in_user;            /* 1: with pictures, put the system text into the first user turn */
    int no_bos;                    /* 1: leave out <|begin_of_text|> (a later turn of the same session) */
};
/* The rendered prompt as text (for looking at; a session uses puna_session_chat, where text cannot pose as
 * control tokens). *out is malloc'ed, NUL-terminated: free it with puna_free. */
PUNA_API PUNA_CHECK int puna_chat_render(char **out, size_t *len, const struct puna_message *messages,
                                         size_t n, const struct puna_chat_opts *opts,
                                         struct puna_error *err);
PUNA_API void puna_free(void *p);

/* ------------------------------------------------------------------------------------- pictures */

struct puna_image_params {   /* frozen: it lies inside puna_session_params */
    int64_t max_pixels;     /* 0: 64 Mi */
    size_t max_bytes;       /* 0: 64 MiB */
    double max_seconds;     /* decoder CPU time; 0: 20 */
    int keep_orientation;   /* 1: ignore EXIF orientation */
};

/* A picture through the front half: decoded, resized, cut into tiles; optionally through the vision encoder.
 * All arrays belong to the struct; free with puna_encoded_free. */
struct puna_encoded {
    int32_t width, height;    /* after orientation */
    int32_t tile, channels, max_tiles, n_tiles, aspect_ratio_id, tiles_h, tiles_w;
    float *pixel_values;      /* [max_tiles][3][tile][tile], missing tiles 0 */
    int32_t n_tokens, dim;    /* per tile (incl. CLS); features per token */
    float *vision_features;   /* [max_tiles][n_tokens][dim], missing tiles 0; NULL without PUNA_ENCODE_FEATURES */
    double preprocess_seconds, encode_seconds;
};
enum { PUNA_ENCODE_FEATURES = 1, PUNA_ENCODE_PRECISE = 2, /* f32 activations */
       PUNA_ENCODE_FULL = 4 /* compute every tile and padding token, without the empty-tile reduction */ };
PUNA_API PUNA_CHECK int puna_encode_image(const puna_model *m, const void *bytes, size_t len,
                                          const struct puna_image_params *params, int flags,
                                          puna_progress_fn progress, void *user,
                                          struct puna_encoded *out, struct puna_error *err);
PUNA_API void puna_encoded_free(struct puna_encoded *e);
/* PNG bytes of an RGB picture [h][w][3]; *out is malloc'ed (puna_free). */
PUNA_API PUNA_CHECK int puna_png(uint8_t **out, size_t *len, const uint8_t *rgb, int32_t w, int32_t h,
                                 struct puna_error *err);

/* ------------------------------------------------------------------------------------- session */

enum puna_kv_type { PUNA_KV_F16 = 0, PUNA_KV_F32, PUNA_KV_BF16, PUNA_KV_Q8_0 };

struct puna_session_params {
    size_t size;      /* sizeof: set by the init function */
    int32_t ctx;      /* context in tokens; 0: min(4096, the model's) */
    int kv_type;      /* enum puna_kv_type */
    int32_t chunk;    /* prefill chunk in tokens; 0: 256. Does not change results */
    int precise;      /* 1: activations and KV f32 everywhere, for verification */
    int hf_rows;      /* 1: rows before a picture as Hugging Face treats them (see doc/NUMERICS.md): they see every
                         picture there is when they are computed, so add all pictures first */
    int full_tiles;   /* 1: no empty-tile reduction (for tests) */
    size_t max_memory; /* refuse beyond this many bytes of anonymous memory; 0: what the machine has free */
    struct puna_image_params image;
    puna_progress_fn progress;
    void *progress_user;
};
PUNA_API void puna_session_params_init_sized(struct puna_session_params *p, size_t size);
static inline void puna_session_params_init(struct puna_session_params *p)
{
    puna_session_params_init_sized(p, sizeof *p);
}
/* Bytes a session with these parameters and n_images pictures will use besides the mapped file:
 * KV cache, cross-attention K/V, scratch. Fields filled even when it would not fit. */
struct puna_memory_plan {
    size_t file_bytes, kv_bytes, cross_bytes_per_image, scratch_bytes, vision_scratch_bytes, available_bytes;
};
PUNA_API int puna_plan_memory(const puna_model *m, const struct puna_session_params *p,
                              struct puna_memory_plan *plan);
PUNA_API PUNA_CHECK int puna_session_open(puna_session **out, const puna_model *m,
                                          const struct puna_session_params *params,
                                          struct puna_error *err);
PUNA_API void puna_session_close(puna_session **s);

/* Append to the conversation. Nothing is computed until puna_session_eval or puna_generate.
 * tokens:  raw ids; each <|image|> id takes the next picture added and not yet placed.
 * text:    special: parse special tokens (so that "<|image|>" places a picture).
 * image:   decode, check and queue a picture for the next <|image|>.
 * chat:    render messages by the template (BOS only at the session's start) and append them, pictures included.
 * On error nothing has been appended. PUNA_E_CONTEXT when it does not fit the context (the sentence
 * gives both counts). */
PUNA_API PUNA_CHECK int puna_session_tokens(puna_session *s, const int32_t *ids, size_t n,
                                            struct puna_error *err);
PUNA_API PUNA_CHECK int puna_session_text(puna_session *s, const char *text, size_t len, int special,
                                          struct puna_error *err);
PUNA_API PUNA_CHECK int puna_session_image(puna_session *s, const void *bytes, size_t len,
                                           struct puna_error *err);
PUNA_API PUNA_CHECK int puna_session_chat(puna_session *s, const struct puna_message *messages, size_t n,
                                          const struct puna_chat_opts *opts, struct puna_error *err);
/* Number of tokens in the conversation, and token i. */
PUNA_API int32_t puna_session_length(const puna_session *s);
PUNA_API int32_t puna_session_token(const puna_session *s, int32_t i);
/* Forget everything from position n on (pictures placed there too; their K/V stay cached by content), and pictures
 * that were added but not placed yet. */
PUNA_API PUNA_CHECK int puna_session_rewind(puna_session *s, int32_t n, struct puna_error *err);

/* Compute all pending tokens. logits != NULL: called for each of them in order with f32 [n_vocab]
 * (valid during the call); return non-zero to stop. NULL: only the last row's logits are computed and kept. */
typedef int (*puna_logits_fn)(void *user, int32_t position, const float *logits, int32_t n_vocab);
PUNA_API PUNA_CHECK int puna_session_eval(puna_session *s, puna_logits_fn fn, void *user,
                                          struct puna_error *err);
/* For measuring: n more tokens count as computed, but are not; their keys and values are noise. */
PUNA_API PUNA_CHECK int puna_session_skip(puna_session *s, int32_t n, struct puna_error *err);
/* Logits of the last computed position, f32 [n_vocab]; NULL before the first eval and after a rewind (an eval
 * then computes the last row again). */
PUNA_API const float *puna_session_logits(const puna_session *s);

/* Stop the running eval/generate of this session: it returns PUNA_E_CANCELLED within about one layer's time.
 * Safe from other threads and signal handlers. The session stays usable: what was computed stays,
 * the rest is still pending. A request that comes while no call runs stops the next one at once;
 * it is forgotten when a call returns. */
PUNA_API void puna_session_cancel(puna_session *s);

struct puna_logit_bias { int32_t id; float bias; };
struct puna_gen_params {
    size_t size;              /* sizeof: set by the init function */
    int32_t max_tokens;       /* -1: to the end of the context */
    float temperature;        /* 0: greedy */
    int32_t top_k;            /* 0: off */
    float top_p, min_p;       /* 1, 0: off */
    float repeat_penalty;     /* 1: off; over the last repeat_last_n tokens */
    int32_t repeat_last_n;    /* 64; -1: all */
    float presence_penalty, frequency_penalty; /* 0: off; over generated tokens (OpenAI's rule) */
    uint64_t seed;            /* same seed, same build and machine: same text */
    const struct puna_logit_bias *logit_bias;
    size_t n_logit_bias;
    const char *const *stop;  /* stop strings: not part of the output, found across token borders */
    size_t n_stop;
    int ignore_eos;           /* 1: the model's end tokens do not end the answer (they are never sampled) */
    int32_t top_logprobs;     /* 0..20: alternatives reported per token; -1: no log-probabilities */
};
/* Defaults of the model's generation config. */
PUNA_API void puna_gen_params_init_sized(struct puna_gen_params *p, size_t size, const puna_model *m);
static inline void puna_gen_params_init(struct puna_gen_params *p, const puna_model *m)
{
    puna_gen_params_init_sized(p, sizeof *p, m);
}

struct puna_token_prob { int32_t id; float logprob; };
struct puna_piece {
    const char *text;  /* UTF-8, never ends inside a character; may be empty; held back while a stop
                          string may follow */
    size_t text_len;
    int32_t id;        /* the token just sampled; -1: held-back text after the last one */
    float logprob;     /* natural log, of the unmodified distribution (temperature 1, no cuts) */
    const struct puna_token_prob *top; /* [n_top], best first */
    int32_t n_top;
};
/* Return non-zero to stop (finish reason "cancelled"). */
typedef int (*puna_piece_fn)(void *user, const struct puna_piece *piece);

enum puna_finish { PUNA_FINISH_STOP = 0, PUNA_FINISH_LENGTH, PUNA_FINISH_CANCELLED };
struct puna_gen_result {
    int finish;              /* enum puna_finish */
    int32_t stop_id;         /* the end token, or -1 */
    const char *stop_string; /* the caller's string that matched, or NULL */
    int32_t n_prompt, n_generated;
    int32_t n_images, n_images_cached; /* pictures of this call's prompt; how many came from the cache */
    double image_seconds, prefill_seconds, decode_seconds, first_token_seconds;
};
/* Evaluate what is pending, then sample until an end token, a stop string, max_tokens or the context's end.
 * The generated tokens (end token included) become part of the conversation. params NULL: the model's defaults. */
PUNA_API PUNA_CHECK int puna_generate(puna_session *s, const struct puna_gen_params *params,
                                      puna_piece_fn fn, void *user, struct puna_gen_result *result,
                                      struct puna_error *err);

/* ------------------------------------------------------------------------------------- importance */

/* Importance statistics for quantisation: for every weight matrix the sum of squares of each column of its inputs,
 * over all tokens (for the vision tower: patches of the pictures' real tiles) that observed sessions compute. A
 * picture counts when it is encoded: a second time only after it has left the session's cache. */
typedef struct puna_imatrix puna_imatrix;
PUNA_API PUNA_CHECK int puna_imatrix_open(puna_imatrix **out, const puna_model *m, struct puna_error *err);
/* Before the model. Nulls the pointer. */
PUNA_API void puna_imatrix_close(puna_imatrix **im);
/* What s computes from now on is counted in im; NULL: no longer. im must be of the same model and outlive s. Several
 * sessions may share one im as long as their calls do not overlap. */
PUNA_API void puna_session_observe(puna_session *s, puna_imatrix *im);

struct puna_imatrix_info {
    size_t size;                 /* sizeof(struct puna_imatrix_info) */
    const char *const *datasets; /* [n_datasets] names of the files the sums come from */
    size_t n_datasets;
    uint32_t chunk_count, chunk_size; /* pieces computed, tokens in a piece */
};
/* Write the sums as a GGUF file in the form of llama.cpp's imatrix tool: tensors NAME.in_sum2 F32 [1][columns] and
 * NAME.counts F32 [1][1], NAME as in a GGUF file of the model. Matrices without a single row are left out.
 * PUNA_E_NUMERIC names a matrix whose inputs were not finite. The file appears when it is complete. */
PUNA_API PUNA_CHECK int puna_imatrix_write(const puna_imatrix *im, const char *path,
                                           const struct puna_imatrix_info *info, struct puna_error *err);
/* Add the sums of such a file, whoever wrote it. info (NULL, or its size set) is filled; its strings belong to im.
 * PUNA_E_FORMAT, and nothing added, when a tensor is not this model's. */
PUNA_API PUNA_CHECK int puna_imatrix_add(puna_imatrix *im, const char *path, struct puna_imatrix_info *info,
                                         struct puna_error *err);

/* ------------------------------------------------------------------------------------- machine */

/* Kernel tiers: i = 0, 1, ... until NULL. built, usable: may be NULL. */
PUNA_API const char *puna_tier(int i, int *built, int *usable);
/* The tier that a model opened with this params.cpu uses: the one of that name, or for NULL or "" PUNA_CPU's from the
 * environment or else the best. NULL, and err says why, where there is none of that name here. */
PUNA_API const char *puna_tier_chosen(const char *cpu, struct puna_error *err);
/* The kernel in slot i = 0, 1, ... of a tier's table (as above); 0, or -1 at the end. */
struct puna_kernel {
    size_t size;        /* sizeof(struct puna_kernel): set it before the call */
    const char *slot;   /* "mm_q4_k" */
    const char *tier;   /* the tier whose kernel it is; NULL: there is none, and the rest is 0 */
    const char *packer; /* a product: the slot that packs activations for it; NULL: it takes them as they are */
    int tile_m, tile_n; /* a product: rows of activations by rows of weights of its register tile; 0: a library's */
};
PUNA_API int puna_kernel_slot(const char *tier, int i, struct puna_kernel *out);
/* CPUs this process may run on (affinity and cgroup quota), and what `threads = 0` resolves to. */
PUNA_API int puna_cpu_count(void);
/* Measured ceilings of this machine with `threads` threads and the instructions of a tier (as above), about a second
 * in all: sequential read bandwidth in GB/s; int8, bf16 and f32 multiply-add peaks in GOPS (2 per multiply-add; 0: no
 * such instruction). All zero where there is no such tier. */
struct puna_ceilings { double read_gbs, int8_gops, bf16_gops, f32_gops; };
PUNA_API void puna_measure_ceilings(const char *cpu, int threads, struct puna_ceilings *out);
/* The same with the model's threads and the instructions of its tier. */
PUNA_API void puna_model_ceilings(const puna_model *m, struct puna_ceilings *out);
/* The model's threads read, once and in order, the weights that a token of text needs: GB/s, the ceiling of decoding
 * at this moment and with these pages. Where memory has other users (a virtual machine's neighbours) it changes from
 * second to second, so measure in turns with what is compared with it. */
PUNA_API double puna_measure_reads(const puna_model *m);

/* ------------------------------------------------------------------------------------- what fits */

/* What one number format makes of a model on this machine. Rates are expectations, from measured ceilings and the
 * fractions of them that puna's kernels have been seen to reach; prompts of a few hundred tokens, half of the
 * context filled while decoding. */
struct puna_fit_row {
    const char *type;           /* as puna_quant_type() names them */
    size_t file_bytes;          /* of the file that puna_quantize would write */
    double prefill_rate;        /* tokens per second, text */
    double decode_rate, decode_picture_rate; /* without and with a picture in sight */
    double picture_seconds;     /* encoding a picture of the most tiles; 0: a text model */
};
struct puna_fit {
    size_t size;                /* sizeof(struct puna_fit): set it before the call */
    const char *tier;
    int threads, has_vision;
    int32_t max_tiles, ctx;
    struct puna_memory_plan plan; /* besides the file; file_bytes is that of the file opened, 0 for a shape */
    struct puna_ceilings ceilings;
    size_t n_rows;
    struct puna_fit_row rows[24];
};
/* name: a model as for puna_model_open, or (where no such file exists) a shape: a published model without weights.
 * model, session: NULL or parameters; ceilings: NULL to measure them. */
PUNA_API PUNA_CHECK int puna_fit(const char *name, const struct puna_model_params *model,
                                 const struct puna_session_params *session, const struct puna_ceilings *ceilings,
                                 struct puna_fit *out, struct puna_error *err);
/* Names of the shapes: i = 0, 1, ... until NULL. */
PUNA_API const char *puna_shape(size_t i);

/* ------------------------------------------------------------------------------------- synthetic models */

/* Write a random model of a real shape as GGUF (combined layout for the vision shapes), for measuring without
 * weights. arch: "11b", "11b-base", "90b", "8b", "1b", "3b". type: "Q4_K_M", "Q8_0", "F16", ...
 * layers: 0: all; otherwise the text stack is cut to that many (cross layers included). dry: only compute
 * *bytes. The file appears under its name only when complete. */
PUNA_API PUNA_CHECK int puna_synth(const char *arch, const char *type, int layers, uint64_t seed,
                                   const char *path, int dry, size_t *bytes, puna_progress_fn progress,
                                   void *user, struct puna_error *err);

/* ------------------------------------------------------------------------------------- conversion */

/* One tensor's number format: pattern is a shell pattern for the names in the file ("blk.*.attn_v.weight"), type a
 * tensor's ("Q6_K"). Later ones win. */
struct puna_quant_override { const char *pattern, *type; };

struct puna_quant_tensor {
    const char *name, *source_name; /* in the file written; in the one read ("" when made) */
    const char *type, *source_type;
    int ndim;
    int64_t shape[4];  /* row-major order: slowest first */
    size_t n_values, n_bytes;
    int is_vision;
    int is_fallback;   /* not the type asked for: rows do not divide into its blocks */
    int has_importance;
    size_t n_bad;      /* with check: values that are NaN or infinite */
};
/* Return non-zero to cancel. Strings are good during the call. */
typedef int (*puna_quant_tensor_fn)(void *user, const struct puna_quant_tensor *t);

struct puna_quant_params {
    size_t size;              /* sizeof: set by the init function */
    const char *type;         /* "Q4_K_M" ...: puna_quant_type() lists them */
    const char *vision;       /* matrices of the vision tower: "F16", "BF16", "Q8_0", "F32"; NULL: as suits the type */
    const struct puna_quant_override *overrides;
    size_t n_overrides;
    const char *imatrix;      /* importance of columns, from llama.cpp's or puna's imatrix; NULL: none */
    const char *projector;    /* Ollama's old split form: the projector .gguf */
    int cross_permuted;       /* split GGUF only, as in puna_model_params */
    int threads;              /* 0: as in puna_model_params. The bytes written do not depend on it */
    int overwrite;            /* 1: replace a file that exists */
    int dry;                  /* 1: only fill in the result and call tensor() */
    int check;                /* 1: read every value, write nothing, call tensor() with n_bad */
    puna_progress_fn progress; /* phases "load", "quantize", "check", in values */
    void *progress_user;
    puna_quant_tensor_fn tensor; /* once per tensor in file order, from the calling thread: before anything is
                                    written, with check after everything was read */
    void *tensor_user;
    const struct puna_lora *loras; /* [n_loras] adapters to merge into the weights; read during the call */
    size_t n_loras;
};
PUNA_API void puna_quant_params_init_sized(struct puna_quant_params *p, size_t size);
static inline void puna_quant_params_init(struct puna_quant_params *p)
{
    puna_quant_params_init_sized(p, sizeof *p);
}
struct puna_quant_result {
    size_t size;               /* sizeof(struct puna_quant_result): set it before the call */
    size_t file_bytes, source_bytes, n_tensors, n_values;
    size_t n_fallback, n_bad;  /* tensors not in the type asked for; with check: tensors with NaN or Inf */
    size_t n_requantized;      /* tensors whose source was in blocks already, and of another type */
    size_t n_importance, n_without; /* tensors in blocks with and without importance, when there is an imatrix */
};
/* Names of the types: i = 0, 1, ... until NULL. */
PUNA_API const char *puna_quant_type(size_t i);
/* A model (whatever puna_model_open opens) into one GGUF file at `path`: Ollama's combined layout, or llama.cpp's for
 * a text model. The file appears under its name only when it is complete and on disk. A value that is NaN or
 * infinite is PUNA_E_NUMERIC, naming the tensor. path may be NULL with dry or check. result may be NULL. */
PUNA_API PUNA_CHECK int puna_quantize(const char *name, const char *path, const struct puna_quant_params *params,
                                      struct puna_quant_result *result, struct puna_error *err);

#ifdef __cplusplus
}
#endif
#endif
