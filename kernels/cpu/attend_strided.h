// Block scores along antidiagonals on the tiles of attend_tile.h, included after it.
//
// `stride` queries side by side are one row of stride*head_dim features, the last query first, and as many keys one strided key,
// the first key first. Their product sums the scores of an antidiagonal of a stride x stride square, so that the whole is one
// matrix product, a stride-th of q*k^T. A row keeps for every key block the sum of its powers of two relative to the row's
// running maximum; no score is ever written to memory.
#include "attend_score.h"

struct strided {
    struct tile t;       // without outputs and values; pos is the last strided key that a row sees
    int64_t row0, rows;  // first strided row, and how many; times group in the tile
    int64_t per;         // strided rows of a block
    int64_t blocks;      // key blocks
    float *sums;         // [rows*group][blocks]
};

TARGET static size_t strided_carve(struct strided *x, void *scratch, const struct attend_args *a, const struct attend_blocks *b,
                                   const struct attend_strided *s) {
    struct tile *t = &x->t;
    float *p = scratch;
    *t = (struct tile){0};
    x->row0 = a->first / s->stride;
    x->rows = (a->first + a->positions - 1) / s->stride + 1 - x->row0;
    x->per = b->block / s->stride;
    x->blocks = (b->keys + b->block - 1) / b->block;
    t->rows = attend_round_up(x->rows * a->group, MR);
    t->dims = s->stride * a->head_dim / (1 + PAIRS);
    t->dims_pad = attend_round_up(t->dims, 16);
    int64_t rows16 = attend_round_up(t->rows, 16);
    t->q = p, p += t->rows * t->dims_pad;
    t->k = p, p += KT * t->dims_pad;
    t->scores = p, p += RG * ST;
    t->stage = p, p += VL * t->dims_pad;
    t->max = p, p += rows16;
    t->pos = (int32_t *)p, p += rows16;
    t->kpos = (int32_t *)p, p += KT;
    x->sums = p, p += t->rows * attend_round_up(x->blocks, 16);
    return (size_t)(p - (float *)scratch) * 4;
}

size_t FN(pbs_strided_scratch_)(const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s) {
    struct strided x;
    return strided_carve(&x, NULL, a, b, s);
}

TARGET void FN(pbs_strided_begin_)(const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s, void *scratch,
                                   const void *q) {
    struct strided x;
    strided_carve(&x, scratch, a, b, s);
    struct tile *t = &x.t;
    int64_t size = PAIRS ? 2 : 4, dims = a->head_dim / (1 + PAIRS);
    memset(t->q, 0, t->rows * t->dims_pad * 4);  // queries before the item's first and after its last are zeros
    memset(x.sums, 0, t->rows * x.blocks * 4);
    for (int64_t r = 0; r < t->rows; r++) {
        int64_t row = x.row0 + r / a->group, last = row;
        if (r >= x.rows * a->group) last = row = x.row0 + x.rows - 1;
        if (!s->own) last = row * s->stride / b->segment * b->segment / s->stride - 1;
        t->pos[r] = (int32_t)last;
        t->max[r] = ATTEND_LOWEST;
        if (r >= x.rows * a->group) continue;
        for (int64_t i = 0; i < s->stride; i++) {
            int64_t at = (row + 1) * s->stride - 1 - i - a->first;
            if (at < 0 || at >= a->positions) continue;
            const char *src = (const char *)q + (at * a->q_stride + r % a->group * a->head_dim) * size;
#ifdef OWN_PRODUCTS
            memcpy(t->q + r * t->dims_pad + i * dims, src, dims * 4);
#else
            float *dst = t->q + r / MR * MR * t->dims_pad + i * dims * MR + r % MR;
            for (int64_t d = 0; d < dims; d++) memcpy(dst + d * MR, src + d * 4, 4);
#endif
        }
    }
}

// strided_pack packs n strided keys from c on into panels of NR; keys that do not exist are zeros.
TARGET static void strided_pack(const struct tile *t, const struct attend_args *a, const struct attend_blocks *b,
                                const struct attend_strided *s, const char *k, int64_t c, int64_t n) {
    int64_t step = a->kv_stride * (a->kv_f32 ? 4 : 2), dims = a->head_dim / (1 + PAIRS);
    for (int64_t d = t->dims; d < t->dims_pad; d++)
        for (int64_t i = 0; i < VL; i++) t->stage[i * t->dims_pad + d] = 0;
    for (int64_t key = 0; key < attend_round_up(n, NR); key += VL) {
        for (int64_t i = 0; i < VL; i++) {
            uint32_t *row = (uint32_t *)t->stage + i * t->dims_pad;
            int64_t place = (c + key + i) * s->stride, segment = place / b->segment * b->segment;
            for (int64_t e = 0; e < s->stride; e++, place++, row += dims) {
                int64_t pos = b->perm && place < b->sorted ? segment + b->perm[place] : place;
                if (key + i < n && pos < b->keys) tile_row(row, k + pos * step, a->head_dim, a->kv_f32);
                else memset(row, 0, dims * 4);
            }
        }
        float *dst = t->k + key / NR * NR * t->dims_pad + key % NR;
        for (int64_t d = 0; d < t->dims_pad; d += VL) TRANSPOSE(dst + d * NR, t->stage + d, t->dims_pad);
    }
}

// strided_row moves a row's sums on by its n scores of the strided keys from c on. kpos, unless NULL, hides keys as in
// softmax_row.
TARGET ALWAYS_INLINE void strided_row(const struct strided *x, int64_t row, float *s, int64_t c, int64_t n, float scale,
                                      const int32_t *kpos) {
    const struct tile *t = &x->t;
    float *sums = x->sums + row * x->blocks;
    V m = VSET1(-__builtin_inff());
    for (int64_t i = 0; i < n; i += VL) {
        V y = VLOAD(s + i);
        if (kpos) {
            y = VVISIBLE(y, kpos + i, t->pos[row]);
            VSTORE(s + i, y);
        }
        m = VMAX(y, m);
    }
    float old = t->max[row], top = VHMAX(m) * scale;
    if (top - old > STALE) {
        float alpha = __builtin_exp2f(old - top);
        for (int64_t j = 0; j <= c / x->per; j++) sums[j] *= alpha;
        t->max[row] = top;
    }
    V cv = VSET1(scale), shift = VSET1(-t->max[row]);
    for (int64_t i = 0; i < n; i += VL) VSTORE(s + i, VEXP2(VFMA(VLOAD(s + i), cv, shift)));
    for (int64_t i = 0; i < n;) {
        int64_t j = (c + i) / x->per, end = (j + 1) * x->per - c;
        if (end > n) end = n;
        float sum = 0;
        if (end - i >= VL) {
            V l = VSET1(0);
            for (; i + VL <= end; i += VL) l = VADD(l, VLOAD(s + i));
            sum = VHSUM(l);
        }
        for (; i < end; i++) sum += s[i];
        sums[j] += sum;
    }
}

TARGET void FN(pbs_strided_keys_)(const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s, void *scratch,
                                  const void *k, int64_t c0, int64_t c1) {
    struct strided x;
    strided_carve(&x, scratch, a, b, s);
    const struct tile *t = &x.t;
    float scale = a->scale * ATTEND_LOG2E;
    PRODUCTS_BEGIN();
    for (int64_t base = c0; base < c1 && base <= t->pos[t->rows - 1]; base += KT) {
        int64_t n = c1 - base < KT ? c1 - base : KT;
        for (int64_t i = 0; i < KT; i++) t->kpos[i] = i < n ? (int32_t)(base + i) : INT32_MAX;
        strided_pack(t, a, b, s, k, base, n);
        for (int64_t r0 = 0; r0 < t->rows; r0 += RG) {
            int64_t rows = t->rows - r0 < RG ? t->rows - r0 : RG, seen = t->pos[r0 + rows - 1] - base + 1;
            if (seen > n) seen = n;
            for (int64_t key = 0; key < seen; key += ST) {
                int64_t w = seen - key < ST ? seen - key : ST;
                int hides = w % NR || t->pos[r0] < base + key + w - 1;
                products_scores(t, r0, rows, key, w);
                for (int64_t r = r0; r < r0 + rows && r < x.rows * a->group; r++)
                    strided_row(&x, r, t->scores + (r - r0) * ST, base + key, w, scale, hides ? t->kpos + key : NULL);
            }
        }
    }
    PRODUCTS_END();
}

TARGET void FN(pbs_strided_end_)(const struct attend_args *a, const struct attend_blocks *b, const struct attend_strided *s, void *scratch,
                                 float *weights) {
    struct strided x;
    strided_carve(&x, scratch, a, b, s);
    int64_t first = a->first / b->block, count = (a->first + a->positions - 1) / b->block + 1 - first;
    memset(weights, 0, a->group * count * x.blocks * 4);
    for (int64_t r = 0; r < x.rows * a->group; r++) {
        const float *sums = x.sums + r * x.blocks;
        float *w = weights + (r % a->group * count + (x.row0 + r / a->group) / x.per - first) * x.blocks, total = 0;
        for (int64_t j = 0; j < x.blocks; j++) total += sums[j];
        float inv = total == 0 ? 0 : 1 / total;  // no keys to see
        for (int64_t j = 0; j < x.blocks; j++) w[j] += sums[j] * inv;
    }
}
