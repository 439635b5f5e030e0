/* SPDX-License-Identifier: Apache-2.0 */
/* Given the codes, the best scale (and minimum) is a least-squares solution; given the scale, the best codes are the
 * nearest ones. Alternating the two finds a minimum near where it starts, so the search starts from a row of
 * scales. Where a format stores sub-block scales as small integers, the same goes on with the integers: neighbours
 * of the rounded scale are tried by their true error, then the scale common to all is solved for again. */
#include "quant/fit.h"

#include <math.h>
#include <string.h>

#include "quant/blocks.h"

typedef int32_t i4 __attribute__((vector_size(16)));

#define PN_ALWAYS static inline __attribute__((always_inline))

/* Below this a block is zeros: the smallest f16 is 6e-8, and squares must not vanish in f32. */
#define TINY 1e-9f

PN_ALWAYS pn_f4 all(float v)
{
    return (pn_f4){v, v, v, v};
}

PN_ALWAYS pn_f4 pick(i4 mask, pn_f4 a, pn_f4 b)
{
    return (pn_f4)((mask & (i4)a) | (~mask & (i4)b));
}

PN_ALWAYS float sum(pn_f4 a)
{
    return (a[0] + a[2]) + (a[1] + a[3]);
}

/* Nearest code, as a number. Adding 1.5 * 2^23 leaves no bits for fractions: rounds to nearest even. */
PN_ALWAYS pn_f4 nearest(pn_f4 v, const struct pn_fit_code *c)
{
    if (c->iq4) {
        pn_f4 q = all(pn_iq4_values[0]);
        for (int k = 1; k < 16; k++) {
            const float step = (float)(pn_iq4_values[k] - pn_iq4_values[k - 1]);
            const float border = 0.5f * (float)(pn_iq4_values[k] + pn_iq4_values[k - 1]);
            q += (pn_f4)((i4)(v > all(border)) & (i4)all(step));
        }
        return q;
    }
    v = pick(v > all(c->lo), v, all(c->lo));
    v = pick(v < all(c->hi), v, all(c->hi));
    return v + all(12582912.0f) - all(12582912.0f);
}

PN_ALWAYS float inverse(float s)
{
    return fabsf(s) > 1e-30f ? 1.0f / s : 0.0f;
}

/* f16 that is finite. */
static uint16_t to_f16(float x)
{
    return pn_f32_to_f16(x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x);
}

/* The value of largest magnitude, with its sign. */
PN_ALWAYS float extreme(const pn_f4 *x, int nv)
{
    pn_f4 lo = x[0], hi = x[0];
    for (int i = 1; i < nv; i++) {
        lo = pick(x[i] < lo, x[i], lo);
        hi = pick(x[i] > hi, x[i], hi);
    }
    float a = lo[0], b = hi[0];
    for (int l = 1; l < 4; l++) {
        a = lo[l] < a ? lo[l] : a;
        b = hi[l] > b ? hi[l] : b;
    }
    return -a > b ? a : b;
}

/* ---------------------------------------------------------------------------- x ~ s * q */

struct sums {
    float xq, qq;
};

/* Codes at scale 1/id, and what least squares needs of them. */
PN_ALWAYS struct sums sums_of(const pn_f4 *x, const pn_f4 *w, int nv, float id, const struct pn_fit_code *c)
{
    pn_f4 xq = all(0), qq = all(0);
    for (int i = 0; i < nv; i++) {
        const pn_f4 q = nearest(x[i] * all(id), c), wq = w[i] * q;
        xq += wq * x[i];
        qq += wq * q;
    }
    return (struct sums){sum(xq), sum(qq)};
}

PN_ALWAYS float error_of(const pn_f4 *x, const pn_f4 *w, int nv, float s, const struct pn_fit_code *c)
{
    const float id = inverse(s);
    pn_f4 e = all(0);
    for (int i = 0; i < nv; i++) {
        const pn_f4 d = x[i] - nearest(x[i] * all(id), c) * all(s);
        e += w[i] * d * d;
    }
    return sum(e);
}

PN_ALWAYS void codes_of(const pn_f4 *x, int nv, float s, const struct pn_fit_code *c, float *q)
{
    const float id = inverse(s);
    for (int i = 0; i < nv; i++) {
        const pn_f4 v = nearest(x[i] * all(id), c);
        memcpy(q + 4 * i, &v, sizeof v);
    }
}

/* Where the extreme value is put, as a part of the code range's two ends: below 1 leaves codes unused, beyond 1 cuts
 * the extreme off. */
static const float places[] = {1.0f, 0.95f, 0.9f, 0.86f, 0.8f, 0.74f, 0.68f, 1.06f, 1.12f, 1.2f, 1.35f, 1.6f};

/* Best scale without rounding. The gain xq^2 / qq is by how much the error falls below that of all zeros. */
PN_ALWAYS float fit(const pn_f4 *x, const pn_f4 *w, int nv, const struct pn_fit_code *c, struct sums *at)
{
    const float xm = extreme(x, nv);
    struct sums best = {0, 1};
    *at = best;
    if (fabsf(xm) < TINY)
        return 0;
    for (int side = 0; side < 2; side++)
        for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
            const struct sums t = sums_of(x, w, nv, (side ? c->hi : c->lo) * places[k] / xm, c);
            if (t.xq * t.xq * best.qq > best.xq * best.xq * t.qq)
                best = t;
        }
    for (int k = 0; k < 2; k++) {
        const struct sums t = sums_of(x, w, nv, inverse(best.xq / best.qq), c);
        if (t.xq * t.xq * best.qq > best.xq * best.xq * t.qq)
            best = t;
    }
    *at = best;
    return best.xq / best.qq;
}

/* The f16 numbers at and beside x. */
static void beside(float x, uint16_t out[3])
{
    const uint16_t h = to_f16(x), mag = h & 0x7fff;
    out[0] = h;
    out[1] = mag > 0 ? (uint16_t)(h - 1) : h;
    out[2] = mag < 0x7bff ? (uint16_t)(h + 1) : h;
}

PN_ALWAYS uint16_t fit_scale(const struct pn_fit_block *b, const struct pn_fit_code *c, float q[32])
{
    struct sums at;
    uint16_t near[3], best = 0;
    float least = INFINITY;
    beside(fit(b->x, b->w, 8, c, &at), near);
    for (int k = 0; k < 3; k++) {
        const float e = error_of(b->x, b->w, 8, pn_f16_to_f32(near[k]), c);
        if (e < least) {
            least = e;
            best = near[k];
        }
    }
    codes_of(b->x, 8, pn_f16_to_f32(best), c, q);
    return best;
}

uint16_t pn_fit_scale(const struct pn_fit_block *b, const struct pn_fit_code *code, float q[32])
{
    static const struct pn_fit_code iq4 = {-127, 113, true};
    const struct pn_fit_code linear = {code->lo, code->hi, false};
    return code->iq4 ? fit_scale(b, &iq4, q) : fit_scale(b, &linear, q);
}

uint16_t pn_fit_scale_fine(const struct pn_fit_block *b, float top, float q[32])
{
    const struct pn_fit_code c = {-top, top, false};
    const float most = fabsf(extreme(b->x, 8));
    uint16_t best = 0;
    float least = INFINITY;
    for (int k = 0; k < 6 && most >= TINY; k++) {
        const uint16_t d = to_f16(most / (top + 0.4f - 0.4f * (float)k));
        const float e = error_of(b->x, b->w, 8, pn_f16_to_f32(d), &c);
        if (e < least) {
            least = e;
            best = d;
        }
    }
    codes_of(b->x, 8, pn_f16_to_f32(best), &c, q);
    return best;
}

/* ---------------------------------------------------------------------------- x ~ s * q - m */

struct sums2 {
    float q, qq, xq;
};

struct line {
    float s, m, err;
};

PN_ALWAYS struct sums2 sums2_of(const pn_f4 *x, const pn_f4 *w, int nv, float s, float m, float top)
{
    const struct pn_fit_code c = {0, top, false};
    const float id = inverse(s);
    pn_f4 sq = all(0), qq = all(0), xq = all(0);
    for (int i = 0; i < nv; i++) {
        const pn_f4 q = nearest((x[i] + all(m)) * all(id), &c), wq = w[i] * q;
        sq += wq;
        qq += wq * q;
        xq += wq * x[i];
    }
    return (struct sums2){sum(sq), sum(qq), sum(xq)};
}

PN_ALWAYS float error2_of(const pn_f4 *x, const pn_f4 *w, int nv, float s, float m, float top)
{
    const struct pn_fit_code c = {0, top, false};
    const float id = inverse(s);
    pn_f4 e = all(0);
    for (int i = 0; i < nv; i++) {
        const pn_f4 d = x[i] - (nearest((x[i] + all(m)) * all(id), &c) * all(s) - all(m));
        e += w[i] * d * d;
    }
    return sum(e);
}

PN_ALWAYS void codes2_of(const pn_f4 *x, int nv, float s, float m, float top, float *q)
{
    const struct pn_fit_code c = {0, top, false};
    const float id = inverse(s);
    for (int i = 0; i < nv; i++) {
        const pn_f4 v = nearest((x[i] + all(m)) * all(id), &c);
        memcpy(q + 4 * i, &v, sizeof v);
    }
}

struct moments {
    float w, x, xx;
};

/* Least squares of both, m >= 0 where the format can only subtract. */
PN_ALWAYS struct line solve(const struct moments *z, struct sums2 t, bool m_positive)
{
    const float det = t.qq * z->w - t.q * t.q;
    struct line l = {0, 0, INFINITY};
    if (det > 1e-6f * t.qq * z->w) {
        l.s = (t.xq * z->w - z->x * t.q) / det;
        l.m = (t.xq * t.q - z->x * t.qq) / det;
    } else if (t.qq > 0) {
        l.s = t.xq / t.qq;
    }
    if (m_positive && l.m < 0) {
        l.m = 0;
        l.s = t.qq > 0 ? t.xq / t.qq : 0;
    }
    l.err = z->xx - 2 * (l.s * t.xq - l.m * z->x) + l.s * l.s * t.qq - 2 * l.s * l.m * t.q + l.m * l.m * z->w;
    return l;
}

PN_ALWAYS struct line fit2(const pn_f4 *x, const pn_f4 *w, int nv, float top, bool m_positive)
{
    pn_f4 lo4 = x[0], hi4 = x[0], sw = all(0), sx = all(0), sxx = all(0);
    for (int i = 0; i < nv; i++) {
        const pn_f4 wx = w[i] * x[i];
        lo4 = pick(x[i] < lo4, x[i], lo4);
        hi4 = pick(x[i] > hi4, x[i], hi4);
        sw += w[i];
        sx += wx;
        sxx += wx * x[i];
    }
    float lo = lo4[0], hi = hi4[0];
    for (int l = 1; l < 4; l++) {
        lo = lo4[l] < lo ? lo4[l] : lo;
        hi = hi4[l] > hi ? hi4[l] : hi;
    }
    if (m_positive) {
        lo = lo < 0 ? lo : 0;
        hi = hi > 0 ? hi : 0;
    }
    const struct moments z = {sum(sw), sum(sx), sum(sxx)};
    struct line best = {0, m_positive && lo >= 0 ? 0 : -lo, INFINITY};
    if (hi - lo < TINY)
        return best;
    static const struct {
        float below, above; /* parts of the range cut off at its ends */
    } cuts[] = {{0, 0}, {-0.02f, -0.02f}, {0.02f, 0.02f}, {0.04f, 0.04f}, {0.07f, 0.07f}, {0.1f, 0.1f},
                {0, 0.05f}, {0.05f, 0}, {0, 0.12f}, {0.12f, 0}, {0.15f, 0.15f}};
    for (size_t k = 0; k < sizeof cuts / sizeof *cuts; k++) {
        const float range = hi - lo, from = lo + cuts[k].below * range, to = hi - cuts[k].above * range;
        struct line l = {(to - from) / top, -from, 0};
        for (int pass = 0; pass < 2; pass++) {
            l = solve(&z, sums2_of(x, w, nv, l.s, l.m, top), m_positive);
            if (!(l.err < INFINITY) || !(l.s > 0))
                break;
            if (l.err < best.err)
                best = l;
        }
    }
    for (int pass = 0; pass < 2; pass++) {
        const struct line l = solve(&z, sums2_of(x, w, nv, best.s, best.m, top), m_positive);
        if (l.s > 0 && l.err < best.err)
            best = l;
    }
    return best;
}

PN_ALWAYS void fit_scale_min(const struct pn_fit_block *b, float top, uint16_t *d, uint16_t *m, float q[32])
{
    /* from the lowest value on, or the sums would cancel where the values lie far from zero */
    pn_f4 y[8];
    float lo = b->x[0][0];
    for (int i = 0; i < 32; i++)
        lo = b->x[i / 4][i % 4] < lo ? b->x[i / 4][i % 4] : lo;
    for (int i = 0; i < 8; i++)
        y[i] = b->x[i] - all(lo);
    const struct line l = fit2(y, b->w, 8, top, false);
    uint16_t ds[3], ms[3];
    float least = INFINITY;
    beside(l.s, ds);
    beside(lo - l.m, ms);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            const float e = error2_of(b->x, b->w, 8, pn_f16_to_f32(ds[i]), -pn_f16_to_f32(ms[k]), top);
            if (e < least) {
                least = e;
                *d = ds[i];
                *m = ms[k];
            }
        }
    codes2_of(b->x, 8, pn_f16_to_f32(*d), -pn_f16_to_f32(*m), top, q);
}

void pn_fit_scale_min(const struct pn_fit_block *b, float top, uint16_t *d, uint16_t *m, float q[32])
{
    fit_scale_min(b, top, d, m, q);
}

/* ---------------------------------------------------------------------------- x ~ d * sc * q */

static float clamp(float x, float lo, float hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

/* Round to nearest even without the rounding mode of the process. */
static float whole(float x)
{
    return x + 12582912.0f - 12582912.0f;
}

/* d so that sc = round(s / d) loses least, each sub-block's loss being weight * (s - d * sc)^2. lo..hi: of sc. */
static float fit_steps(const float *s, const float *weight, int n, float lo, float hi)
{
    float sm = 0, best = 0, least = INFINITY;
    for (int j = 0; j < n; j++)
        sm = fabsf(s[j]) > fabsf(sm) ? s[j] : sm;
    if (fabsf(sm) < 1e-12f)
        return 0;
    enum { STEPS = 16 };
    for (int side = lo < 0 ? 0 : 1; side < 2; side++)
        for (int k = 0; k < STEPS; k++) {
            const float end = side ? hi : lo, d = pn_f16_to_f32(to_f16(sm / (end * (1.0f - 0.5f / STEPS * (float)k))));
            const float id = inverse(d);
            float loss = 0;
            for (int j = 0; j < n; j++) {
                const float e = s[j] - d * whole(clamp(s[j] * id, lo, hi));
                loss += weight[j] * e * e;
            }
            if (loss < least) {
                least = loss;
                best = d;
            }
        }
    return best;
}

PN_ALWAYS uint16_t fit_super(const struct pn_fit_block *b, const struct pn_fit_code *c, int n_sub, int sc_lo, int sc_hi,
                             int sc[16], float q[256])
{
    const int nv = 64 / n_sub;
    float s[16], qq[16], least = INFINITY;
    uint16_t best = 0;
    for (int j = 0; j < n_sub; j++) {
        struct sums at;
        s[j] = fit(b->x + j * nv, b->w + j * nv, nv, c, &at);
        qq[j] = at.qq;
        sc[j] = 0;
    }
    float d = fit_steps(s, qq, n_sub, (float)sc_lo, (float)sc_hi);
    for (int round = 0; round < 3; round++) {
        const uint16_t h = to_f16(d);
        const float dh = pn_f16_to_f32(h), id = inverse(dh);
        float err = 0, num = 0, den = 0;
        int now[16];
        for (int j = 0; j < n_sub; j++) {
            const pn_f4 *x = b->x + j * nv, *w = b->w + j * nv;
            const int at = (int)whole(clamp(s[j] * id, (float)sc_lo, (float)sc_hi));
            float e_best = INFINITY;
            now[j] = 0;
            for (int k = at - 1; k <= at + 1; k++) {
                if (k < sc_lo || k > sc_hi)
                    continue;
                const float e = error_of(x, w, nv, dh * (float)k, c);
                if (e < e_best) {
                    e_best = e;
                    now[j] = k;
                }
            }
            const struct sums t = sums_of(x, w, nv, inverse(dh * (float)now[j]), c);
            err += e_best;
            num += (float)now[j] * t.xq;
            den += (float)(now[j] * now[j]) * t.qq;
        }
        if (err < least) {
            least = err;
            best = h;
            memcpy(sc, now, (size_t)n_sub * sizeof *sc);
        }
        if (!(den > 0) || to_f16(num / den) == h)
            break;
        d = num / den;
    }
    for (int j = 0; j < n_sub; j++)
        codes_of(b->x + j * nv, nv, pn_f16_to_f32(best) * (float)sc[j], c, q + 4 * j * nv);
    return best;
}

uint16_t pn_fit_super(const struct pn_fit_block *b, const struct pn_fit_code *code, int n_sub, int sc_lo, int sc_hi,
                      int sc[16], float q[256])
{
    static const struct pn_fit_code iq4 = {-127, 113, true};
    const struct pn_fit_code linear = {code->lo, code->hi, false};
    return code->iq4 ? fit_super(b, &iq4, n_sub, sc_lo, sc_hi, sc, q)
                     : fit_super(b, &linear, n_sub, sc_lo, sc_hi, sc, q);
}

/* ---------------------------------------------------------------------------- x ~ d * sc * q - dmin * mn */

/* The integers of one sub-block at given d and dmin. */
struct pair {
    int sc, mn;
    float err;
};

PN_ALWAYS struct pair fit_pair(const pn_f4 *x, const pn_f4 *w, int nv, float top, int limit, float s, float m, float d,
                               float dmin, const struct moments *z)
{
    const float id = inverse(d), idmin = inverse(dmin), most = (float)limit;
    const int at = (int)whole(clamp(s * id, 0, most));
    struct pair best = {0, 0, INFINITY};
    for (int k = at - 1; k <= at + 1; k++) {
        if (k < 0 || k > limit)
            continue;
        const float ds = d * (float)k;
        /* the minimum that suits this scale's codes */
        const struct sums2 t = sums2_of(x, w, nv, ds, m, top);
        const float fit_m = z->w > 0 ? (ds * t.q - z->x) / z->w : m;
        const int a = (int)whole(clamp(m * idmin, 0, most)), b = (int)whole(clamp(fit_m * idmin, 0, most));
        for (int i = 0; i < (a == b ? 1 : 2); i++) {
            const int l = i ? b : a;
            const float e = error2_of(x, w, nv, ds, dmin * (float)l, top);
            if (e < best.err)
                best = (struct pair){k, l, e};
        }
    }
    return best;
}

PN_ALWAYS void fit_super_min(const struct pn_fit_block *b, float top, int n_sub, int limit, uint16_t *d_out,
                             uint16_t *dmin_out, int sc[16], int mn[16], float q[256])
{
    const int nv = 64 / n_sub;
    float s[16], m[16], sw[16], mw[16], least = INFINITY;
    struct moments z[16];
    for (int j = 0; j < n_sub; j++) {
        const pn_f4 *x = b->x + j * nv, *w = b->w + j * nv;
        const struct line l = fit2(x, w, nv, top, true);
        const struct sums2 t = sums2_of(x, w, nv, l.s, l.m, top);
        pn_f4 w4 = all(0), x4 = all(0);
        for (int i = 0; i < nv; i++) {
            w4 += w[i];
            x4 += w[i] * x[i];
        }
        z[j] = (struct moments){sum(w4), sum(x4), 0};
        s[j] = l.s;
        m[j] = l.m;
        sw[j] = t.qq;
        mw[j] = z[j].w;
        sc[j] = mn[j] = 0;
    }
    float d = fit_steps(s, sw, n_sub, 0, (float)limit), dmin = fit_steps(m, mw, n_sub, 0, (float)limit);
    *d_out = *dmin_out = 0;
    for (int round = 0; round < 3; round++) {
        const uint16_t dh = to_f16(d), mh = to_f16(dmin);
        const float df = pn_f16_to_f32(dh), mf = pn_f16_to_f32(mh);
        struct pair now[16];
        /* normal equations for d and dmin over the block */
        float err = 0, aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
        for (int j = 0; j < n_sub; j++) {
            const pn_f4 *x = b->x + j * nv, *w = b->w + j * nv;
            now[j] = fit_pair(x, w, nv, top, limit, s[j], m[j], df, mf, &z[j]);
            const struct sums2 t = sums2_of(x, w, nv, df * (float)now[j].sc, mf * (float)now[j].mn, top);
            const float a = (float)now[j].sc, l = (float)now[j].mn;
            err += now[j].err;
            aa += a * a * t.qq;
            ab += a * l * t.q;
            bb += l * l * z[j].w;
            xa += a * t.xq;
            xb += l * z[j].x;
        }
        if (err < least) {
            least = err;
            *d_out = dh;
            *dmin_out = mh;
            for (int j = 0; j < n_sub; j++) {
                sc[j] = now[j].sc;
                mn[j] = now[j].mn;
            }
        }
        const float det = aa * bb - ab * ab;
        if (det > 1e-6f * aa * bb) {
            d = (xa * bb - xb * ab) / det;
            dmin = (xa * ab - xb * aa) / det;
        } else if (aa > 0) {
            d = xa / aa;
        }
        if (!(d > 0) || !(dmin >= 0) || (to_f16(d) == dh && to_f16(dmin) == mh))
            break;
    }
    for (int j = 0; j < n_sub; j++)
        codes2_of(b->x + j * nv, nv, pn_f16_to_f32(*d_out) * (float)sc[j], pn_f16_to_f32(*dmin_out) * (float)mn[j], top,
                  q + 4 * j * nv);
}

void pn_fit_super_min(const struct pn_fit_block *b, float top, int n_sub, int limit, uint16_t *d, uint16_t *dmin,
                      int sc[16], int mn[16], float q[256])
{
    if (n_sub == 16)
        fit_super_min(b, top, 16, limit, d, dmin, sc, mn, q);
    else
        fit_super_min(b, top, 8, limit, d, dmin, sc, mn, q);
}
