// Decode attention, included once per instruction set (f32 arithmetic for every dtype: its time is the reading of K and V).
// Beside the macros of attend_tile.h the file defines
//
//   VPAIR(p, lo, hi)    2*VL bf16 at p as two vectors: the even and the odd elements
//   VREDUCE4(dst, v)    dst[i] = sum of v[i] for four vectors
//
// Rows of the same position go in fours, so that a key is widened once for four heads and no row ever touches a key that it
// may not see. A bf16 row is split into its even and odd elements, two cheap operations for 2*VL values; queries are
// permuted the same way before and outputs back after.

#define HEADS 4
#define SUB 64  // keys between two looks at the running maximum; their K or V lies in L1

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

// scores[key][head] = q[head] . k[key] for HEADS heads and n keys.
TARGET ALWAYS_INLINE void decode_scores(float *scores, const float *q, int64_t dims, const char *k, int64_t step, int64_t n, int bf16) {
    for (int64_t key = 0; key < n; key++, k += step) {
        V c[HEADS][2];
#pragma GCC unroll 4
        for (int h = 0; h < HEADS; h++) c[h][0] = c[h][1] = VSET1(0);
        for (int64_t d = 0; d < dims; d += 2 * VL) {
            V lo, hi;
            decode_load(k + d * (bf16 ? 2 : 4), bf16, &lo, &hi);
#pragma GCC unroll 4
            for (int h = 0; h < HEADS; h++) {
                c[h][0] = VFMA(VLOAD(q + h * dims + d), lo, c[h][0]);
                c[h][1] = VFMA(VLOAD(q + h * dims + d + VL), hi, c[h][1]);
            }
        }
#pragma GCC unroll 4
        for (int h = 0; h < HEADS; h++) c[h][0] = VADD(c[h][0], c[h][1]);
        VREDUCE4(scores + key * HEADS, c[0][0], c[1][0], c[2][0], c[3][0]);
    }
}

// out[head] += sum over keys of p[key][head] * v[key], two vectors of columns at a time.
TARGET ALWAYS_INLINE void decode_outputs(float *out, const float *p, int64_t dims, const char *v, int64_t step, int64_t n, int bf16) {
    for (int64_t d = 0; d < dims; d += 2 * VL) {
        V c[HEADS][2];
#pragma GCC unroll 4
        for (int h = 0; h < HEADS; h++) c[h][0] = VLOAD(out + h * dims + d), c[h][1] = VLOAD(out + h * dims + d + VL);
        const char *row = v + d * (bf16 ? 2 : 4);
        for (int64_t key = 0; key < n; key++, row += step) {
            V lo, hi;
            decode_load(row, bf16, &lo, &hi);
#pragma GCC unroll 4
            for (int h = 0; h < HEADS; h++) {
                V x = VBCAST(p + key * HEADS + h);
                c[h][0] = VFMA(x, lo, c[h][0]);
                c[h][1] = VFMA(x, hi, c[h][1]);
            }
        }
#pragma GCC unroll 4
        for (int h = 0; h < HEADS; h++) VSTORE(out + h * dims + d, c[h][0]), VSTORE(out + h * dims + d + VL, c[h][1]);
    }
}

// The online softmax of one head over n keys: scores to probabilities, in place.
TARGET ALWAYS_INLINE void decode_softmax(float *scores, int64_t n, float c, float *max, float *sum, float *out, int64_t dims) {
    float buf[SUB], top = -__builtin_inff(), alpha = 1;
    for (int64_t i = 0; i < n; i++) {
        buf[i] = scores[i * HEADS];
        top = buf[i] > top ? buf[i] : top;
    }
    for (int64_t i = n; i < SUB; i++) buf[i] = -__builtin_inff();
    top *= c;
    if (top > *max) {
        alpha = __builtin_exp2f(*max - top);
        *max = top;
        for (int64_t d = 0; d < dims; d += VL) VSTORE(out + d, VFMA(VLOAD(out + d), VSET1(alpha), VSET1(0)));
    }
    V l = VSET1(0), cv = VSET1(c), shift = VSET1(-*max);  // the rounding of max*c is the same for all keys, and cancels
    for (int64_t i = 0; i < SUB; i += VL) {
        V x = VEXP2(VFMA(VLOAD(buf + i), cv, shift));
        l = VADD(l, x);
        VSTORE(buf + i, x);
    }
    *sum = *sum * alpha + VHSUM(l);
    for (int64_t i = 0; i < n; i++) scores[i * HEADS] = buf[i];
}

// Rows of a head_dim that is no multiple of 2*VL are first widened to f32 and padded with zeros.
TARGET static void decode_stage(float *dst, const char *src, int64_t step, int64_t head_dim, int64_t dims, int64_t n, int kv_f32) {
    for (int64_t key = 0; key < n; key++, src += step, dst += dims) {
        if (kv_f32) memcpy(dst, src, head_dim * 4);
        else
            for (int64_t d = 0; d < head_dim; d++) dst[d] = attend_widen(((const uint16_t *)src)[d]);
        memset(dst + head_dim, 0, (dims - head_dim) * 4);
    }
}

// Scratch: per group of four rows the queries [HEADS][dims] and the state: maximum and sum of each, outputs [HEADS][dims].
#define STATE(dims) (16 + HEADS * (dims))

TARGET static void decode_begin(const struct attend_args *a, const void *q, float *qs, float *state, int64_t dims, int split) {
    int64_t fours = (a->group + HEADS - 1) / HEADS;
    memset(qs, 0, a->positions * fours * HEADS * dims * 4);
    memset(state, 0, a->positions * fours * STATE(dims) * 4);
    for (int64_t g = 0; g < a->positions * fours; g++, qs += HEADS * dims, state += STATE(dims))
        for (int64_t h = 0; h < HEADS; h++) {
            state[h] = ATTEND_LOWEST;
            int64_t head = g % fours * HEADS + h, at = g / fours * a->q_stride + head * a->head_dim;
            for (int64_t d = 0; head < a->group && d < a->head_dim; d++) {
                float x = a->bf16 ? attend_widen(((const uint16_t *)q)[at + d]) : ((const float *)q)[at + d];
                qs[h * dims + decode_slot(d, split)] = x;
            }
        }
}

TARGET ALWAYS_INLINE void decode_group(const float *q, float *state, const char *k, const char *v, int64_t step, int64_t dims,
                                       int64_t n, float c, int bf16) {
    float scores[SUB * HEADS], *out = state + 16;
    decode_scores(scores, q, dims, k, step, n, bf16);
    for (int h = 0; h < HEADS; h++) decode_softmax(scores + h, n, c, state + h, state + HEADS + h, out + h * dims, dims);
    decode_outputs(out, scores, dims, v, step, n, bf16);
}

void DCAT(pbs_attend_decode_, DISA)(const struct attend_args *a, void *scratch, const void *q, const void *k, const void *v,
                                    int64_t k0, int64_t k1, float *part);

TARGET void DCAT(pbs_attend_decode_, DISA)(const struct attend_args *a, void *scratch, const void *q, const void *k, const void *v,
                                           int64_t k0, int64_t k1, float *part) {
    int64_t dims = attend_round_up(a->head_dim, 2 * VL), fours = (a->group + HEADS - 1) / HEADS, groups = a->positions * fours;
    int64_t step = a->kv_stride * (a->kv_f32 ? 4 : 2), step_in = step;
    int staged = dims != a->head_dim, bf16 = !a->kv_f32 && !staged;
    float *qs = scratch, *state = qs + groups * HEADS * dims, *stage = state + groups * STATE(dims);
    float c = a->scale * ATTEND_LOG2E;
    decode_begin(a, q, qs, state, dims, bf16);
    for (int64_t base = k0; base < k1; base += SUB) {
        int64_t n = k1 - base < SUB ? k1 - base : SUB;
        const char *kt = (const char *)k + base * step, *vt = (const char *)v + base * step;
        if (staged) {
            decode_stage(stage, kt, step, a->head_dim, dims, n, a->kv_f32);
            decode_stage(stage + SUB * dims, vt, step, a->head_dim, dims, n, a->kv_f32);
            kt = (const char *)stage, vt = (const char *)(stage + SUB * dims), step_in = dims * 4;
        }
        for (int64_t g = 0; g < groups; g++) {
            int64_t seen = a->first + g / fours - base + 1;
            if (seen <= 0) continue;
            if (seen > n) seen = n;
            if (bf16) decode_group(qs + g * HEADS * dims, state + g * STATE(dims), kt, vt, step_in, dims, seen, c, 1);
            else decode_group(qs + g * HEADS * dims, state + g * STATE(dims), kt, vt, step_in, dims, seen, c, 0);
        }
    }
    for (int64_t i = 0; i < a->positions; i++)
        for (int64_t head = 0; head < a->group; head++, part += 2 + a->head_dim) {
            const float *s = state + (i * fours + head / HEADS) * STATE(dims), *out = s + 16 + head % HEADS * dims;
            part[0] = s[head % HEADS], part[1] = s[HEADS + head % HEADS];
            for (int64_t d = 0; d < a->head_dim; d++) part[2 + d] = out[decode_slot(d, bf16)];
        }
}
