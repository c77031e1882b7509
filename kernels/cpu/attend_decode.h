// Decode attention, included once per instruction set (f32 arithmetic for every dtype: its time is the reading of K and V).
// Beside the macros of attend_tile.h the file defines
//
//   VPAIR(p, lo, hi)    2*VL bf16 at p as two vectors: the even and the odd elements
//   VREDUCE4(dst, v)    dst[i] = sum of v[i] for four vectors
//
// Heads of the same position go in groups of `heads`, four or eight, so that a key is widened once for all of them and no
// row ever touches a key that it may not see. A bf16 row is split into its even and odd elements, two cheap operations for 2*VL values; queries are
// permuted the same way before and outputs back after.

// The largest group: eight where registers suffice.
#define MAX_HEADS (VL == 16 ? 8 : 4)
#define SUB 64  // keys between two looks at the running maximum; their K or V lies in L1
#define AHEAD(p) __builtin_prefetch(p, 0, 2)  // V while K is used, then the next K: one stream would leave memory idle in between

#define DCAT2(a, b) a##b
#define DCAT(a, b) DCAT2(a, b)

// Where element d of a row stands when rows are split into even and odd elements chunk by chunk.
ALWAYS_INLINE int64_t decode_slot(int64_t d, int bf16) {
    if (!bf16) return d;
    int64_t chunk = d / (2 * VL) * (2 * VL), i = d % (2 * VL);
    return chunk + i / 2 + i % 2 * VL;
}

TARGET ALWAYS_INLINE void decode_load(const char *p, int bf16, V *lo, V *hi) {
    if (bf16) VPAIR(p, *lo, *hi);
    else *lo = VLOAD((const float *)p), *hi = VLOAD((const float *)p + VL);
}

// scores[key][head] = q[head] . k[key] for a group of heads and n keys.
TARGET ALWAYS_INLINE void decode_scores(int heads, float *scores, const float *q, int64_t dims, const char *k, int64_t step, int64_t n, int bf16, const char *next) {
    for (int64_t key = 0; key < n; key++, k += step, next += step) {
        for (int64_t b = 0; b < dims * (bf16 ? 2 : 4); b += 64) AHEAD(next + b);
        V c[MAX_HEADS][2];
#pragma GCC unroll 8
        for (int h = 0; h < heads; h++) c[h][0] = c[h][1] = VSET1(0);
        for (int64_t d = 0; d < dims; d += 2 * VL) {
            V lo, hi;
            decode_load(k + d * (bf16 ? 2 : 4), bf16, &lo, &hi);
#pragma GCC unroll 8
            for (int h = 0; h < heads; h++) {
                c[h][0] = VFMA(VLOAD(q + h * dims + d), lo, c[h][0]);
                c[h][1] = VFMA(VLOAD(q + h * dims + d + VL), hi, c[h][1]);
            }
        }
#pragma GCC unroll 8
        for (int h = 0; h < heads; h++) c[h][0] = VADD(c[h][0], c[h][1]);
        for (int h = 0; h < heads; h += 4) VREDUCE4(scores + key * heads + h, c[h][0], c[h + 1][0], c[h + 2][0], c[h + 3][0]);
    }
}

// out[head] += sum over keys of p[key][head] * v[key], two vectors of columns at a time.
TARGET ALWAYS_INLINE void decode_outputs(int heads, float *out, const float *p, int64_t dims, const char *v, int64_t step, int64_t n, int bf16, const char *next) {
    for (int64_t d = 0; d < dims; d += 2 * VL) {
        V c[MAX_HEADS][2];
#pragma GCC unroll 8
        for (int h = 0; h < heads; h++) c[h][0] = VLOAD(out + h * dims + d), c[h][1] = VLOAD(out + h * dims + d + VL);
        const char *row = v + d * (bf16 ? 2 : 4), *ahead = next + d * (bf16 ? 2 : 4);
        for (int64_t key = 0; key < n; key++, row += step, ahead += step) {
            for (int64_t b = 0; b < 2 * VL * (bf16 ? 2 : 4); b += 64) AHEAD(ahead + b);
            V lo, hi;
            decode_load(row, bf16, &lo, &hi);
#pragma GCC unroll 8
            for (int h = 0; h < heads; h++) {
                V x = VBCAST(p + key * heads + h);
                c[h][0] = VFMA(x, lo, c[h][0]);
                c[h][1] = VFMA(x, hi, c[h][1]);
            }
        }
#pragma GCC unroll 8
        for (int h = 0; h < heads; h++) VSTORE(out + h * dims + d, c[h][0]), VSTORE(out + h * dims + d + VL, c[h][1]);
    }
}

// The online softmax of a group of heads over n keys: scores [key][head] to probabilities, in place. A vector holds VL/heads keys of
// all heads, so that lane l belongs to head l%heads throughout.
TARGET ALWAYS_INLINE void decode_softmax(int heads, float *scores, int64_t n, float c, float *max, float *sum, float *out, int64_t dims) {
    float lanes[VL];
    for (; n * heads % VL; n++)
        for (int h = 0; h < heads; h++) scores[n * heads + h] = -__builtin_inff();
    V m = VSET1(-__builtin_inff()), l = VSET1(0), cv = VSET1(c);
    for (int64_t i = 0; i < n * heads; i += VL) m = VMAX(VLOAD(scores + i), m);
    VSTORE(lanes, m);
    for (int h = 0; h < heads; h++) {
        float top = lanes[h];
        for (int i = h; i < VL; i += heads) top = lanes[i] > top ? lanes[i] : top;
        top *= c;
        if (top - max[h] > STALE) {
            float alpha = __builtin_exp2f(max[h] - top);
            for (int64_t d = 0; d < dims; d += VL) VSTORE(out + h * dims + d, VFMA(VLOAD(out + h * dims + d), VSET1(alpha), VSET1(0)));
            sum[h] *= alpha, max[h] = top;
        }
        for (int i = h; i < VL; i += heads) lanes[i] = -max[h];  // the rounding of max*c is the same for all keys, and cancels
    }
    V shift = VLOAD(lanes);
    for (int64_t i = 0; i < n * heads; i += VL) {
        V x = VEXP2(VFMA(VLOAD(scores + i), cv, shift));
        l = VADD(l, x);
        VSTORE(scores + i, x);
    }
    VSTORE(lanes, l);
    for (int h = 0; h < heads; h++)
        for (int i = h; i < VL; i += heads) sum[h] += lanes[i];
}

// Rows of a head_dim that is no multiple of 2*VL are first widened to f32 and padded with zeros.
TARGET static void decode_stage(float *dst, const char *src, int64_t step, int64_t head_dim, int64_t dims, int64_t n, int kv_f32) {
    for (int64_t key = 0; key < n; key++, src += step, dst += dims) {
        if (kv_f32) memcpy(dst, src, head_dim * 4);
        else
            for (int64_t d = 0; d < head_dim; d++) dst[d] = bf16_widen(((const uint16_t *)src)[d]);
        memset(dst + head_dim, 0, (dims - head_dim) * 4);
    }
}

// Scratch: per group the queries [heads][dims] and the state: maxima [heads], sums [heads], outputs [heads][dims].
#define STATE(heads, dims) (16 + (heads) * (dims))

TARGET static void decode_begin(const struct attend_args *a, int heads, const void *q, float *qs, float *state, int64_t dims, int split) {
    int64_t per_row = (a->group + heads - 1) / heads;
    memset(qs, 0, a->positions * per_row * heads * dims * 4);
    memset(state, 0, a->positions * per_row * STATE(heads, dims) * 4);
    for (int64_t g = 0; g < a->positions * per_row; g++, qs += heads * dims, state += STATE(heads, dims))
        for (int64_t h = 0; h < heads; h++) {
            state[h] = ATTEND_LOWEST;
            int64_t head = g % per_row * heads + h, at = g / per_row * a->q_stride + head * a->head_dim;
            for (int64_t d = 0; head < a->group && d < a->head_dim; d++) {
                float x = a->bf16 ? bf16_widen(((const uint16_t *)q)[at + d]) : ((const float *)q)[at + d];
                qs[h * dims + decode_slot(d, split)] = x;
            }
        }
}

TARGET ALWAYS_INLINE void decode_group(int heads, const float *q, float *state, const char *k, const char *v, int64_t step, int64_t dims,
                                       int64_t n, float c, int bf16) {
    float scores[SUB * MAX_HEADS], *out = state + 16;
    decode_scores(heads, scores, q, dims, k, step, n, bf16, v);
    decode_softmax(heads, scores, n, c, state, state + heads, out, dims);
    decode_outputs(heads, out, scores, dims, v, step, n, bf16, k + SUB * step);
}

void DCAT(pbs_attend_decode_, DISA)(const struct attend_args *a, void *scratch, const void *q, const void *k, const void *v,
                                    int64_t k0, int64_t k1, float *part);

TARGET void DCAT(pbs_attend_decode_, DISA)(const struct attend_args *a, void *scratch, const void *q, const void *k, const void *v,
                                           int64_t k0, int64_t k1, float *part) {
    int heads = a->group > 4 ? MAX_HEADS : 4;
    int64_t dims = attend_round_up(a->head_dim, 2 * VL), per_row = (a->group + heads - 1) / heads, groups = a->positions * per_row;
    int64_t step = a->kv_stride * (a->kv_f32 ? 4 : 2), step_in = step;
    int staged = dims != a->head_dim, bf16 = !a->kv_f32 && !staged;
    float *qs = scratch, *state = qs + groups * heads * dims, *stage = state + groups * STATE(heads, dims);
    float c = a->scale * ATTEND_LOG2E;
    decode_begin(a, heads, q, qs, state, dims, bf16);
    for (int64_t base = k0; base < k1; base += SUB) {
        int64_t n = k1 - base < SUB ? k1 - base : SUB;
        const char *kt = (const char *)k + base * step, *vt = (const char *)v + base * step;
        if (staged) {
            decode_stage(stage, kt, step, a->head_dim, dims, n, a->kv_f32);
            decode_stage(stage + SUB * dims, vt, step, a->head_dim, dims, n, a->kv_f32);
            kt = (const char *)stage, vt = (const char *)(stage + SUB * dims), step_in = dims * 4;
        }
        for (int64_t g = 0; g < groups; g++) {
            int64_t seen = a->first + g / per_row - base + 1;
            if (seen <= 0) continue;
            if (seen > n) seen = n;
            const float *qg = qs + g * heads * dims;
            float *sg = state + g * STATE(heads, dims);
#if VL == 16
            if (heads == 8 && bf16) decode_group(8, qg, sg, kt, vt, step_in, dims, seen, c, 1);
            else if (heads == 8) decode_group(8, qg, sg, kt, vt, step_in, dims, seen, c, 0);
            else
#endif
                if (bf16) decode_group(4, qg, sg, kt, vt, step_in, dims, seen, c, 1);
            else decode_group(4, qg, sg, kt, vt, step_in, dims, seen, c, 0);
        }
    }
    for (int64_t i = 0; i < a->positions; i++)
        for (int64_t head = 0; head < a->group; head++, part += 2 + a->head_dim) {
            const float *s = state + (i * per_row + head / heads) * STATE(heads, dims), *out = s + 16 + head % heads * dims;
            part[0] = s[head % heads], part[1] = s[heads + head % heads];
            for (int64_t d = 0; d < a->head_dim; d++) part[2 + d] = out[decode_slot(d, bf16)];
        }
}
