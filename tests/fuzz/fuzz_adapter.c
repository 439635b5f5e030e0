/* SPDX-License-Identifier: Apache-2.0 */
/* A LoRA adapter: adapter_config.json up to the first zero byte, behind it adapter_model.safetensors. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "file/adapter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char name[] = "fuzz.safetensors";
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    if (!end)
        return 0;
    const size_t len = (size_t)(end - data);
    /* what pn_read_file gives: a buffer of its own, with a zero behind it */
    char *config = malloc(len + 1);
    if (!config)
        return 0;
    memcpy(config, data, len + 1);
    const struct pn_map map = { .data = end + 1, .size = size - len - 1, .path = name, .slot = -1, .fd = -1 };
    struct pn_adapter *a;
    struct puna_error err;
    if (pn_adapter_read(&a, "fuzz", config, len, &map, &err) == 0) {
        if (a->n_pairs == 0)
            abort();
        for (size_t i = 0; i < a->n_pairs; i++) {
            const struct pn_adapter_pair *p = &a->pairs[i];
            if (pn_adapter_find(a, p->module) != p || !p->a || !p->b || p->a->ne[1] != p->b->ne[0] ||
                !isfinite(p->scale))
                abort();
        }
        pn_adapter_close(&a);
    }
    free(config);
    return 0;
}
