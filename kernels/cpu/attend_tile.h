// The tile kernels of attention, included once by the file of each instruction set. That file defines
//
//   ISA, TARGET            name suffix and function attribute
//   PAIRS                  0: f32 arithmetic; 1: bf16 products of pairs with f32 sums, a dword holding two neighbours
//   VL, MR                 f32 lanes of a vector; rows of a register tile, which is MR x 2*VL
//   KT, ST, RG             keys of a packed tile; keys and rows of one step, whose scores should lie in L1
//   V, VLOAD, VSTORE, VSET1, VBCAST(p), VFMA(a,b,c), VMAX(a,b) (b where unordered), VEXP2(x), VHMAX(v), VHSUM(v)
//   VANY_ABOVE(v, x)       whether any lane of v is above the number x: far sooner known than the maximum
//   VVISIBLE(s,kpos,pos)   s where kpos[i] <= pos, else -inf
//   MAC(acc,x,y)           acc += x*y, of dword pairs where PAIRS
//   VNARROW(dst,lo,hi)     (PAIRS) stores 2*VL values as bf16
//   TRANSPOSE(dst,src,ld)  VL x VL dwords: dst[j*2*VL + i] = src[i*ld + j]
//   PACK_DIRECT(head_dim)  (PAIRS) whether pack_keys and pack_values do for bf16 rows of this length; 0 unless defined
//   OWN_PRODUCTS           the file brings products_scores and products_outputs itself, with q in plain rows
//
// Layouts in scratch, in dwords: q [rows/MR][dims][MR]; k [KT/NR][dims_pad][NR]; v [cols/NR][KT/(1+PAIRS)][NR];
// scores [RG][ST], turned in place into probabilities; out [rows][cols].

#define NR (2 * VL)
#define VKEYS (KT / (1 + PAIRS))
#define CAT2(a, b) a##b
#define CAT(a, b) CAT2(a, b)
#define FN(name) CAT(name, ISA)

// A running maximum is left stale until a score passes it by this many powers of two: probabilities then reach 2^8, which
// costs no precision in floating point and spares nearly all rescaling of the outputs.
#define STALE 8.0f

struct tile {
    int64_t rows, dims, dims_pad, cols;  // rows is a multiple of MR; dims counts dwords
    float *q, *out, *max, *sum, *alpha, *k, *v, *scores, *stage;  // max in units of log2
    int32_t *pos, *kpos;  // position of every row; positions of the tile's keys
};

TARGET static size_t tile_carve(struct tile *t, void *scratch, int64_t head_dim, int64_t rows) {
    float *p = scratch;
    t->rows = attend_round_up(rows, MR);
    t->dims = head_dim / (1 + PAIRS);
    t->dims_pad = attend_round_up(t->dims, 16);
    t->cols = attend_round_up(head_dim, NR);
    int64_t rows16 = attend_round_up(t->rows, 16);
    t->q = p, p += t->rows * t->dims_pad;
    t->out = p, p += t->rows * t->cols;
    t->sum = p, p += t->rows * VL;
    t->k = p, p += KT * t->dims_pad;
    t->v = p, p += VKEYS * t->cols;
    t->scores = p, p += RG * ST;
    t->stage = p, p += VL * t->dims_pad + t->cols;
    t->max = p, p += rows16;
    t->alpha = p, p += attend_round_up(RG, 16);
    t->pos = (int32_t *)p, p += rows16;
    t->kpos = (int32_t *)p, p += KT;
    return (size_t)(p - (float *)scratch) * 4;
}

size_t FN(pbs_attend_scratch_)(int64_t head_dim, int64_t rows) {
    struct tile t;
    return tile_carve(&t, NULL, head_dim, rows);
}

// tile_clear empties the state of all rows.
TARGET static void tile_clear(const struct tile *t) {
    memset(t->q, 0, t->rows * t->dims_pad * 4);
    memset(t->out, 0, t->rows * t->cols * 4);
    memset(t->sum, 0, t->rows * VL * 4);
    for (int64_t r = 0; r < t->rows; r++) t->max[r] = ATTEND_LOWEST;
}

// A head's rows of neighbouring positions lie pages apart, where no hardware stream leads: the one 16 rows ahead is prefetched.
ALWAYS_INLINE void prefetch_ahead(const char *row, int64_t stride, int64_t group, int64_t head_dim) {
    int64_t size = PAIRS ? 2 : 4;
    for (int64_t l = 0; l < head_dim * size; l += 64) __builtin_prefetch(row + 16 / group * stride * size + l, 0, 2);
}

// tile_queries packs the queries of n positions from pos on into rows from row0 on, a multiple of MR. Rows up to the next one
// stand at the last position and have no queries.
TARGET static void tile_queries(const struct tile *t, const struct attend_args *a, int64_t row0, const char *q, int64_t pos, int64_t n) {
    int64_t rows = n * a->group, size = PAIRS ? 2 : 4;
    for (int64_t r = 0; r < attend_round_up(rows, MR); r++) {
        int64_t i = r < rows ? r / a->group : n - 1, h = r % a->group;
        t->pos[row0 + r] = (int32_t)(pos + i);
        if (r >= rows) continue;
        const char *src = q + (i * a->q_stride + h * a->head_dim) * size;
        prefetch_ahead(src, a->q_stride, a->group, a->head_dim);
#ifdef OWN_PRODUCTS
        memcpy(t->q + (row0 + r) * t->dims_pad, src, t->dims * 4);
#else
        float *dst = t->q + (row0 + r) / MR * MR * t->dims_pad + r % MR;
        for (int64_t d = 0; d < t->dims; d++) memcpy(dst + d * MR, src + d * 4, 4);
#endif
    }
}

// tile_output writes the outputs of the n positions whose rows start at row0.
TARGET static void tile_output(const struct tile *t, const struct attend_args *a, int64_t row0, char *out, int64_t n) {
    for (int64_t r = 0; r < n * a->group; r++) {
        float inv = 1 / VHSUM(VLOAD(t->sum + (row0 + r) * VL));
        const float *o = t->out + (row0 + r) * t->cols;
        int64_t at = r / a->group * a->out_stride + r % a->group * a->head_dim;
        prefetch_ahead(out + at * (PAIRS ? 2 : 4), a->out_stride, a->group, a->head_dim);
#if PAIRS
        uint16_t *dst = (uint16_t *)out + at;
        int64_t d = 0;
        for (; d + NR <= a->head_dim; d += NR)
            VNARROW(dst + d, VFMA(VLOAD(o + d), VSET1(inv), VSET1(0)), VFMA(VLOAD(o + d + VL), VSET1(inv), VSET1(0)));
        for (; d < a->head_dim; d++) dst[d] = bf16_narrow(o[d] * inv);
#else
        float *dst = (float *)out + at;
        for (int64_t d = 0; d < a->head_dim; d++) dst[d] = o[d] * inv;
#endif
    }
}

TARGET void FN(pbs_attend_begin_)(const struct attend_args *a, void *scratch, const void *q) {
    struct tile t;
    tile_carve(&t, scratch, a->head_dim, a->positions * a->group);
    tile_clear(&t);
    tile_queries(&t, a, 0, q, a->first, a->positions);
}

// One row of keys or values in the units of the products: f32, or pairs of bf16.
TARGET static void tile_row(uint32_t *restrict dst, const void *src, int64_t head_dim, int kv_f32) {
#if PAIRS
    uint16_t *d = (uint16_t *)dst;
    if (!kv_f32) {
        memcpy(d, src, head_dim * 2);
        return;
    }
    const float *s = src;
    for (int64_t i = 0; i < head_dim; i++) d[i] = bf16_narrow(s[i]);
#else
    if (kv_f32) {
        memcpy(dst, src, head_dim * 4);
        return;
    }
    const uint16_t *s = src;
    for (int64_t i = 0; i < head_dim; i++) dst[i] = (uint32_t)s[i] << 16;
#endif
}

// Packs the n keys at positions kpos into panels of NR, dimension by dimension; the last panel is filled with zeros.
TARGET static void tile_pack_keys(const struct tile *t, const struct attend_args *a, const char *k, int64_t n) {
    int64_t step = a->kv_stride * (a->kv_f32 ? 4 : 2);
#ifdef PACK_DIRECT
    if (PACK_DIRECT(a->head_dim) && !a->kv_f32) {
        static const char zeros[512];
        const char *rows[VL];
        for (int64_t key = 0; key < attend_round_up(n, NR); key += VL) {
            for (int64_t i = 0; i < VL; i++) rows[i] = key + i < n ? k + t->kpos[key + i] * step : zeros;
            pack_keys(t->k + key / NR * NR * t->dims_pad + key % NR, rows, t->dims);
        }
        return;
    }
#endif
    for (int64_t d = t->dims; d < t->dims_pad; d++)
        for (int64_t i = 0; i < VL; i++) t->stage[i * t->dims_pad + d] = 0;
    for (int64_t key = 0; key < attend_round_up(n, NR); key += VL) {
        for (int64_t i = 0; i < VL; i++) {
            uint32_t *row = (uint32_t *)t->stage + i * t->dims_pad;
            if (key + i < n) tile_row(row, k + t->kpos[key + i] * step, a->head_dim, a->kv_f32);
            else memset(row, 0, t->dims * 4);
        }
        float *dst = t->k + key / NR * NR * t->dims_pad + key % NR;
        for (int64_t d = 0; d < t->dims_pad; d += VL) TRANSPOSE(dst + d * NR, t->stage + d, t->dims_pad);
    }
}

// Packs the values of these keys into panels of NR columns, key by key (pair by pair); columns past head_dim are zero, and so are the keys
// that fill up the last 2*NR.
TARGET static void tile_pack_values(const struct tile *t, const struct attend_args *a, const char *v, int64_t n) {
    int64_t step = a->kv_stride * (a->kv_f32 ? 4 : 2);
#ifdef PACK_DIRECT
    if (PACK_DIRECT(a->head_dim) && !a->kv_f32) {
        static const char zeros[512];
        for (int64_t key = 0; key < attend_round_up(n, NR); key += 2)
            pack_values((uint32_t *)t->v + key / 2 * NR, VKEYS * NR, key < n ? v + t->kpos[key] * step : zeros,
                        key + 1 < n ? v + t->kpos[key + 1] * step : zeros, a->head_dim);
        return;
    }
#endif
    memset(t->stage, 0, t->cols * 4);
    uint32_t *row = (uint32_t *)t->stage;
    for (int64_t key = 0; key < attend_round_up(n, NR); key += 1 + PAIRS) {
        uint32_t *dst = (uint32_t *)t->v + key / (1 + PAIRS) * NR;
#if PAIRS
        uint16_t *even = (uint16_t *)row, *odd = even + t->cols;
        if (key < n) tile_row(row, v + t->kpos[key] * step, a->head_dim, a->kv_f32);
        else memset(even, 0, t->cols * 2);
        if (key + 1 < n) tile_row((uint32_t *)odd, v + t->kpos[key + 1] * step, a->head_dim, a->kv_f32);
        else memset(odd, 0, t->cols * 2);
        for (int64_t c = 0; c < t->cols; c += NR, dst += VKEYS * NR)
            for (int64_t i = 0; i < NR; i++) dst[i] = even[c + i] | (uint32_t)odd[c + i] << 16;
#else
        if (key < n) tile_row(row, v + t->kpos[key] * step, a->head_dim, a->kv_f32);
        else memset(row, 0, t->cols * 4);
        for (int64_t c = 0; c < t->cols; c += NR, dst += VKEYS * NR)
            for (int64_t i = 0; i < NR; i++) dst[i] = row[c + i];
#endif
    }
}

// Whether the values of the tile's n keys are finite: a zero probability does not silence an infinity or a NaN in a product.
TARGET static int tile_values_finite(const struct tile *t, const struct attend_args *a, const char *v, int64_t n) {
    int finite = 1;
    for (int64_t key = 0; key < n; key++) {
        if (a->kv_f32) {
            const uint32_t *row = (const uint32_t *)v + t->kpos[key] * a->kv_stride;
            for (int64_t i = 0; i < a->head_dim; i++) finite &= (row[i] & 0x7f800000) != 0x7f800000;
        } else {
            const uint16_t *row = (const uint16_t *)v + t->kpos[key] * a->kv_stride;
            for (int64_t i = 0; i < a->head_dim; i++) finite &= (row[i] & 0x7f80) != 0x7f80;
        }
    }
    return finite;
}

#ifndef OWN_PRODUCTS
// scores = q * k^T for `rows` rows from row0 and the panels that hold keys [key0, key0+n).
TARGET static void products_scores(const struct tile *t, int64_t row0, int64_t rows, int64_t key0, int64_t n) {
    for (int64_t key = 0; key < n; key += NR) {
        const float *k0 = t->k + (key0 + key) * t->dims_pad;
        for (int64_t r0 = 0; r0 < rows; r0 += MR) {
            const float *q = t->q + (row0 + r0) * t->dims_pad, *k = k0;
            V c[MR][2];
#pragma GCC unroll 16
            for (int r = 0; r < MR; r++) c[r][0] = c[r][1] = VSET1(0);
            for (int64_t d = 0; d < t->dims; d++, q += MR, k += NR) {
                V b0 = VLOAD(k), b1 = VLOAD(k + VL);
#pragma GCC unroll 16
                for (int r = 0; r < MR; r++) {
                    V x = VBCAST(q + r);
                    c[r][0] = MAC(c[r][0], x, b0);
                    c[r][1] = MAC(c[r][1], x, b1);
                }
            }
            float *s = t->scores + r0 * ST + key;
#pragma GCC unroll 16
            for (int r = 0; r < MR; r++) VSTORE(s + r * ST, c[r][0]), VSTORE(s + r * ST + VL, c[r][1]);
        }
    }
}

// out = alpha * out + probabilities * v over keys [key0, key0+n).
TARGET static void products_outputs(const struct tile *t, int64_t row0, int64_t rows, int64_t key0, int64_t n, int rescale) {
    (void)rescale;
    int64_t steps = (n + PAIRS) / (1 + PAIRS);
    for (int64_t col = 0; col < t->cols; col += NR) {
        for (int64_t r0 = 0; r0 < rows; r0 += MR) {
            const float *p = t->scores + r0 * ST, *v = t->v + col * VKEYS + key0 / (1 + PAIRS) * NR;
            V c[MR][2];
#pragma GCC unroll 16
            for (int r = 0; r < MR; r++) c[r][0] = c[r][1] = VSET1(0);
            for (int64_t i = 0; i < steps; i++, p++, v += NR) {
                V b0 = VLOAD(v), b1 = VLOAD(v + VL);
#pragma GCC unroll 16
                for (int r = 0; r < MR; r++) {
                    V x = VBCAST(p + r * ST);
                    c[r][0] = MAC(c[r][0], x, b0);
                    c[r][1] = MAC(c[r][1], x, b1);
                }
            }
            float *o = t->out + (row0 + r0) * t->cols + col;
#pragma GCC unroll 16
            for (int r = 0; r < MR; r++, o += t->cols) {
                V alpha = VSET1(t->alpha[r0 + r]);
                VSTORE(o, VFMA(VLOAD(o), alpha, c[r][0]));
                VSTORE(o + VL, VFMA(VLOAD(o + VL), alpha, c[r][1]));
            }
        }
    }
}
#endif

// products_outputs for a tile whose values are not all finite: every row takes the keys it may see and no others.
TARGET static void outputs_exact(const struct tile *t, int64_t row0, int64_t rows, int64_t key0, int64_t n, const int32_t *kpos) {
    for (int64_t r = 0; r < rows; r++) {
        float *o = t->out + (row0 + r) * t->cols;
        for (int64_t c = 0; c < t->cols; c++) o[c] *= t->alpha[r];
        for (int64_t key = 0; key < n; key++) {
            if (kpos && kpos[key] > t->pos[row0 + r]) continue;
            const float *v = t->v + (key0 + key) / (1 + PAIRS) * NR;
#if PAIRS
            float p = bf16_widen(((const uint16_t *)(t->scores + r * ST))[key]);
#else
            float p = t->scores[r * ST + key];
#endif
            for (int64_t c = 0; c < t->cols; c += NR, v += VKEYS * NR)
                for (int64_t i = 0; i < NR; i++)
#if PAIRS
                    o[c + i] += p * bf16_widen(((const uint16_t *)v)[2 * i + key % 2]);
#else
                    o[c + i] += p * v[i];
#endif
        }
    }
}

// One step of the online softmax for a row (arXiv 2307.08691, algorithm 1 lines 9-10): scores over [0, n) become
// probabilities relative to the running maximum. It returns whether the maximum moved, with the factor for what was
// summed before in alpha. c is scale*log2(e): powers of two are cheaper than those of e.
TARGET ALWAYS_INLINE int softmax_row(const struct tile *t, int64_t row, int64_t r, int64_t n, float c, const int32_t *kpos) {
    float *s = t->scores + r * ST;
    V m = VSET1(-__builtin_inff()), m1 = m;
    if (kpos) {
        for (int64_t i = 0; i < n; i += VL) {
            V x = VVISIBLE(VLOAD(s + i), kpos + i, t->pos[row]);
            VSTORE(s + i, x);
            m = VMAX(x, m);
        }
    } else {
        for (int64_t i = 0; i < n; i += NR) m = VMAX(VLOAD(s + i), m), m1 = VMAX(VLOAD(s + i + VL), m1);
    }
    float old = t->max[row];
    m = VMAX(m, m1);
    int moved = VANY_ABOVE(m, (old + STALE) / c) != 0;
    t->alpha[r] = 1;
    if (moved) {
        t->max[row] = VHMAX(m) * c;
        t->alpha[r] = __builtin_exp2f(old - t->max[row]);
    }
    V cv = VSET1(c), shift = VSET1(-t->max[row]);  // the rounding of max*c is the same for all keys, and cancels
    V l0 = VFMA(VLOAD(t->sum + row * VL), VSET1(t->alpha[r]), VSET1(0)), l1 = VSET1(0);
    for (int64_t i = 0; i < n; i += NR) {
        V x = VFMA(VLOAD(s + i), cv, shift), y = VFMA(VLOAD(s + i + VL), cv, shift);
        x = VEXP2(x), y = VEXP2(y);
        l0 = VADD(l0, x), l1 = VADD(l1, y);
#if PAIRS
        VNARROW((uint16_t *)s + i, x, y);
#else
        VSTORE(s + i, x), VSTORE(s + i + VL, y);
#endif
    }
    VSTORE(t->sum + row * VL, VADD(l0, l1));
    return moved;
}

// upcoming are the keys that will be packed next. They lie scattered, so that no hardware stream fetches them.
struct upcoming {
    const char *k, *v;
    int64_t step, bytes;   // of a key: to the next one, and its own
    const uint16_t *perm;  // keys [base, end) are at segment + perm[base], ...; in order where NULL
    int64_t segment, base, end;
};

// upcoming_prefetch asks for one key: a burst of them would fill the line buffers and stall the products.
TARGET ALWAYS_INLINE void upcoming_prefetch(struct upcoming *u) {
    if (u->base == u->end) return;
    int64_t at = (u->perm ? u->segment + u->perm[u->base] : u->base) * u->step;
    u->base++;
    for (int64_t l = 0; l < u->bytes; l += 64) __builtin_prefetch(u->k + at + l, 0, 2), __builtin_prefetch(u->v + at + l, 0, 2);
}

// tile_attend lets rows [row0, row0+rows) attend to keys [key0, key0+n) of the packed tile, n <= ST, key0 a multiple of ST.
// kpos [KT] hides key i from rows at positions before kpos[i]; NULL hides nothing, and then n fills whole panels. exact is for
// values that are not finite. A key of next, where there is one, is prefetched at every row.
TARGET static void tile_attend(const struct tile *t, int64_t row0, int64_t rows, int64_t key0, int64_t n, float c,
                               const int32_t *kpos, int exact, struct upcoming *next) {
    products_scores(t, row0, rows, key0, n);
    int rescale = 0;
    int64_t whole = attend_round_up(n, NR);
    if (kpos) kpos += key0;
    for (int64_t r = 0; r < rows; r++) {
        if (next) upcoming_prefetch(next);
        rescale |= softmax_row(t, row0 + r, r, whole, c, kpos);
    }
    if (exact) outputs_exact(t, row0, rows, key0, n, kpos);
    else products_outputs(t, row0, rows, key0, n, rescale);
}

#ifndef PRODUCTS_BEGIN
#define PRODUCTS_BEGIN()
#define PRODUCTS_END()
#endif

TARGET void FN(pbs_attend_keys_)(const struct attend_args *a, void *scratch, const void *k, const void *v, int64_t k0, int64_t k1) {
    struct tile t;
    tile_carve(&t, scratch, a->head_dim, a->positions * a->group);
    float c = a->scale * ATTEND_LOG2E;
    PRODUCTS_BEGIN();
    for (int64_t base = k0; base < k1; base += KT) {
        int64_t n = k1 - base < KT ? k1 - base : KT, whole = attend_round_up(n, NR);
        for (int64_t i = 0; i < whole; i++) t.kpos[i] = (int32_t)(base + i);
        tile_pack_keys(&t, a, k, n);
        tile_pack_values(&t, a, v, n);
        int exact = a->first < base + whole - 1 && !tile_values_finite(&t, a, v, n);
        for (int64_t r = 0; r < t.rows; r += RG) {
            int64_t rows = t.rows - r < RG ? t.rows - r : RG;
            int64_t seen = t.pos[r + rows - 1] - base + 1;  // keys of the tile that the last row sees
            if (seen <= 0) continue;
            if (seen > n) seen = n;
            int masked = t.pos[r] < base + attend_round_up(seen, NR) - 1;
            for (int64_t key = 0; key < seen; key += ST)
                tile_attend(&t, r, rows, key, seen - key < ST ? seen - key : ST, c, masked ? t.kpos : NULL, exact && masked, NULL);
        }
    }
    PRODUCTS_END();
}

TARGET void FN(pbs_attend_end_)(const struct attend_args *a, void *scratch, void *out) {
    struct tile t;
    tile_carve(&t, scratch, a->head_dim, a->positions * a->group);
    tile_output(&t, a, 0, out, a->positions);
}
