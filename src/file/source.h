/* SPDX-License-Identifier: Apache-2.0 */
/* A model on disk, opened: hyper-parameters, tensors as views into maps, and what the tokenizer needs.
 * One struct for the three shapes people have (hub directory; GGUF, combined or split; text GGUF).
 * After pn_source_open every count, offset, shape and index in here has been checked against the file;
 * tensor shapes against the hyper-parameters are checked by the model room, which knows what it binds. */
#ifndef PN_FILE_SOURCE_H
#define PN_FILE_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "quant/types.h"

struct puna_error;

#define PN_MAX_LAYERS 1024
#define PN_MAX_VLAYERS 256
#define PN_MAX_INTER 16
#define PN_MAX_EOS 16
#define PN_MAX_RATIOS 64

struct pn_tensor {
    const char *name;    /* GGUF: as in the file; hub: the spelling of the first releases,
                            "language_model.model.layers.0...", whichever the file has */
    const char *file_name; /* as in the file, for messages */
    enum pn_type type;
    int ndim;            /* 0 (scalar) .. 4 */
    int64_t ne[4];       /* GGUF order, fastest first (hub shapes are reversed on reading); unused: 1 */
    const uint8_t *data; /* into the map; not aligned */
    size_t n_bytes;
    const struct pn_map *map;
};

enum pn_source_kind { PN_SRC_HUB, PN_SRC_GGUF_TEXT, PN_SRC_GGUF_COMBINED, PN_SRC_GGUF_SPLIT };

struct pn_hparams {
    bool vision;             /* a vision tower and cross-attention layers exist */
    /* text */
    int32_t n_layer;         /* self + cross */
    int32_t d_model, n_head, n_kv_head, head_dim, d_ff;
    int32_t n_vocab;         /* rows of the output matrix: logits per position */
    int32_t n_embd_rows;     /* rows of the embedding matrix (n_vocab + 8 in Llama 3.2 Vision) */
    int32_t n_ctx_train;
    float rms_eps, rope_theta;
    bool rope_scaled;        /* llama3 frequency scaling, by the four numbers below ... */
    float rope_factor, rope_low, rope_high;
    int32_t rope_orig_ctx;   /* ... unless the file has rope_freqs.weight (GGUF), which wins */
    bool tied;               /* output matrix = embedding matrix */
    uint8_t is_cross[PN_MAX_LAYERS]; /* may be set without vision (the text half alone) */
    int32_t n_cross;
    /* vision */
    int32_t v_image, v_patch, v_channels, v_dim, v_head, v_ff, v_layer, v_global, v_tiles;
    int32_t v_inter[PN_MAX_INTER], n_inter; /* inputs of these local layers are kept; ascending */
    float v_eps;
    int32_t n_ratio;         /* ids 1..n_ratio */
    int32_t ratio_h[PN_MAX_RATIOS], ratio_w[PN_MAX_RATIOS]; /* tiles high, wide */
    /* token ids; -1: none */
    int32_t bos, pad, image_token;
    int32_t eos[PN_MAX_EOS], n_eos;
    /* generation defaults */
    bool do_sample;
    float temperature, top_p;
    int32_t top_k;           /* 0: off */
    /* picture normalisation */
    float mean[3], std[3];
};

/* What differs between file families; the model room undoes it. */
struct pn_quirks {
    bool rope_inter;         /* text q, k rows are interleaved (GGUF) instead of half-split (hub) */
    bool vision_gates_tanh;  /* vision gates are stored after tanh (and 1 - tanh for the position gate) */
    bool cross_permuted;     /* cross-attention q, k rows permuted, their norms not */
    bool hub_names, split_names;
    bool global_gates_raw;   /* ... except those of the global layers: an early file has them raw */
};

struct pn_gguf;    /* gguf.h */
struct pn_adapter; /* adapter.h */
struct puna_lora;

struct pn_source {
    enum pn_source_kind kind;
    char *name;              /* what the user typed */
    char *path;              /* main file or directory */
    struct pn_hparams hp;
    struct pn_quirks quirks;
    struct pn_tensor *tensors; /* [n_tensors], sorted by name; no duplicates */
    size_t n_tensors;
    struct pn_map **maps;    /* [n_maps] */
    size_t n_maps;
    struct pn_gguf *gguf, *projector; /* NULL for a hub directory */
    struct pn_adapter **adapters; /* [n_adapters] in the order they were given */
    size_t n_adapters;
    char *tokenizer_json;    /* hub: path of tokenizer.json; NULL: tokenizer from gguf */
    char note[512];          /* one sentence for the user about something corrected; "" if none */
    void *own;               /* private to the file room */
};

struct pn_source_opts {
    const char *projector;   /* split form: the projector file; NULL */
    int cross_permuted;      /* -1 as known for the file family, 0, 1 */
    const struct puna_lora *loras; /* [n_loras] adapters to read with it */
    size_t n_loras;
};

/* name: directory, .gguf file, or Ollama model name (looked up when no such path exists). */
int pn_source_open(struct pn_source **out, const char *name, const struct pn_source_opts *opts,
                   struct puna_error *err);
void pn_source_close(struct pn_source **src);
/* NULL when absent */
const struct pn_tensor *pn_source_find(const struct pn_source *src, const char *name);
/* After a computation: PUNA_E_IO naming file and tensor when a mapped file lost a page, else 0. */
int pn_source_check_lost(const struct pn_source *src, struct puna_error *err);

#endif
