// Block-sparse attention and the ranking of keys on the tiles of attend_tile.h, included after it.

// Rows of one query block in the item's scratch.
#define BLOCK_ROWS(block) attend_round_up(block, MR)

// The positions of an item's i-th query block: where they start, and how many.
ALWAYS_INLINE int64_t block_positions(const struct attend_args *a, const struct attend_blocks *b, int64_t i, int64_t *n) {
    int64_t lo = (a->first / b->block + i) * b->block, hi = lo + b->block, end = a->first + a->positions;
    if (lo < a->first) lo = a->first;
    *n = (hi < end ? hi : end) - lo;
    return lo;
}

ALWAYS_INLINE int64_t block_count(const struct attend_args *a, const struct attend_blocks *b) {
    return (a->first + a->positions - 1) / b->block - a->first / b->block + 1;
}

ALWAYS_INLINE int block_kept(const struct attend_blocks *b, int64_t i, int64_t j) { return b->keep[i * b->words + j / 64] >> (j % 64) & 1; }

size_t FN(pbs_blocks_scratch_)(int64_t head_dim, int64_t block, int64_t blocks) {
    struct tile t;
    return tile_carve(&t, NULL, head_dim, blocks * BLOCK_ROWS(block));
}

TARGET void FN(pbs_blocks_begin_)(const struct attend_args *a, const struct attend_blocks *b, void *scratch, const void *q) {
    struct tile t;
    int64_t count = block_count(a, b), n;
    tile_carve(&t, scratch, a->head_dim, count * BLOCK_ROWS(b->block));
    tile_clear(&t);
    for (int64_t i = 0; i < count; i++) {
        int64_t pos = block_positions(a, b, i, &n);
        tile_queries(&t, a, i * BLOCK_ROWS(b->block), (const char *)q + (pos - a->first) * a->q_stride * (PAIRS ? 2 : 4), pos, n);
    }
}

ALWAYS_INLINE int64_t block_segment(const struct attend_blocks *b, int64_t j) { return j * b->block / b->segment; }

// block_keys sets kpos for the keys at places [base, base+n) of the order and hides what fills up the last panel.
TARGET static void block_keys(const struct tile *t, const struct attend_blocks *b, int64_t base, int64_t n, int permuted) {
    int64_t segment = base / b->segment * b->segment;
    permuted = permuted && b->perm && base < b->sorted;
    for (int64_t i = 0; i < n; i++) t->kpos[i] = (int32_t)(permuted ? segment + b->perm[base + i] : base + i);
    for (int64_t i = n; i < attend_round_up(n, NR); i++) t->kpos[i] = INT32_MAX;
}

// block_past reports whether query block i keeps key block j of an earlier segment, and block_any whether any of the item's does.
ALWAYS_INLINE int block_past(const struct attend_args *a, const struct attend_blocks *b, int64_t i, int64_t j) {
    return block_kept(b, i, j) && block_segment(b, a->first / b->block + i) > block_segment(b, j);
}

ALWAYS_INLINE int block_any(const struct attend_args *a, const struct attend_blocks *b, int64_t count, int64_t j) {
    int any = 0;
    for (int64_t i = 0; i < count; i++) any |= block_past(a, b, i, j);
    return any;
}

// past_tile lets the query blocks of later segments that keep key block j attend to its n keys that are packed: all visible.
TARGET static void past_tile(const struct tile *t, const struct attend_args *a, const struct attend_blocks *b, int64_t j, int64_t n,
                             struct upcoming *next) {
    int64_t count = block_count(a, b), per = BLOCK_ROWS(b->block), positions;
    const int32_t *kpos = n % NR ? t->kpos : NULL;
    for (int64_t i = 0; i < count; i++) {
        if (!block_past(a, b, i, j)) continue;
        block_positions(a, b, i, &positions);
        int64_t rows = attend_round_up(positions, MR);
        for (int64_t r = 0; r < rows; r += RG) {
            for (int64_t key = 0; key < n; key += ST)
                tile_attend(t, i * per + r, rows - r < RG ? rows - r : RG, key, n - key < ST ? n - key : ST, a->scale * ATTEND_LOG2E, kpos, 0, next);
        }
    }
}

// own_tile lets the query blocks of the segment of key block j attend to the n keys from `base` on, packed in their own order: in
// its own segment a query sees the keys before it, whatever their order, and so fewer blocks of them have to be looked at.
TARGET static void own_tile(const struct tile *t, const struct attend_args *a, const struct attend_blocks *b, const void *v, int64_t j,
                            int64_t base, int64_t n) {
    int64_t count = block_count(a, b), per = BLOCK_ROWS(b->block), block0 = a->first / b->block, positions;
    int finite = tile_values_finite(t, a, v, n);
    for (int64_t i = j > block0 ? j - block0 : 0; i < count && block_segment(b, block0 + i) == block_segment(b, j); i++) {
        block_positions(a, b, i, &positions);
        int64_t rows = attend_round_up(positions, MR);
        for (int64_t r = i * per; r < i * per + rows; r += RG) {
            int64_t group = i * per + rows - r < RG ? i * per + rows - r : RG, seen = t->pos[r + group - 1] - base + 1;
            if (seen <= 0) continue;
            if (seen > n) seen = n;
            int64_t whole = attend_round_up(seen, NR);
            int masked = whole > n || t->pos[r] < base + whole - 1;
            for (int64_t key = 0; key < seen; key += ST)
                tile_attend(t, r, group, key, seen - key < ST ? seen - key : ST, a->scale * ATTEND_LOG2E, masked ? t->kpos : NULL, masked && !finite, NULL);
        }
    }
}

// block_seen reports whether query block i attends to key block j as a whole: it keeps it, or it lies in its own segment.
ALWAYS_INLINE int block_seen(const struct attend_args *a, const struct attend_blocks *b, int64_t i, int64_t j) {
    return block_kept(b, i, j) || block_segment(b, a->first / b->block + i) == block_segment(b, j);
}

// column_tile lets the query blocks attend to the n keys of kpos, each to those outside the blocks it sees as a whole.
TARGET static void column_tile(const struct tile *t, const struct attend_args *a, const struct attend_blocks *b, const char *k, const char *v,
                               int64_t n) {
    int64_t count = block_count(a, b), per = BLOCK_ROWS(b->block), positions;
    int32_t seen[KT];
    tile_pack_keys(t, a, k, n);
    tile_pack_values(t, a, v, n);
    int finite = tile_values_finite(t, a, v, n);
    for (int64_t i = 0; i < KT; i++) seen[i] = INT32_MAX;
    for (int64_t i = 0; i < count; i++) {
        int64_t pos = block_positions(a, b, i, &positions), rows = attend_round_up(positions, MR);
        int any = 0;
        for (int64_t c = 0; c < n; c++) {
            int sees = t->kpos[c] < pos + positions && !block_seen(a, b, i, t->kpos[c] / b->block);
            seen[c] = sees ? t->kpos[c] : INT32_MAX;
            any |= sees;
        }
        for (int64_t r = 0; any && r < rows; r += RG)
            for (int64_t key = 0; key < n; key += ST)
                tile_attend(t, i * per + r, rows - r < RG ? rows - r : RG, key, n - key < ST ? n - key : ST, a->scale * ATTEND_LOG2E, seen,
                            !finite, NULL);
    }
}

// block_columns lets the query blocks attend to the single columns among keys [lo, hi).
TARGET static void block_columns(const struct tile *t, const struct attend_args *a, const struct attend_blocks *b, const char *k, const char *v,
                                 int64_t lo, int64_t hi) {
    int64_t count = block_count(a, b), n = 0;
    if (hi > a->first + a->positions) hi = a->first + a->positions;
    for (int64_t w = lo / 64; w * 64 < hi; w++)
        for (uint64_t left = b->columns[w]; left; left &= left - 1) {
            int64_t key = w * 64 + __builtin_ctzll(left);
            int wanted = 0;
            for (int64_t i = 0; i < count; i++) wanted |= !block_seen(a, b, i, key / b->block);
            if (key < lo || key >= hi || !wanted) continue;
            t->kpos[n++] = (int32_t)key;
            if (n == KT) column_tile(t, a, b, k, v, n), n = 0;
        }
    if (n > 0) column_tile(t, a, b, k, v, n);
}

TARGET void FN(pbs_blocks_keys_)(const struct attend_args *a, const struct attend_blocks *b, void *scratch, const void *k, const void *v,
                                 int64_t j0, int64_t j1) {
    struct tile t;
    int64_t count = block_count(a, b), block0 = a->first / b->block;
    tile_carve(&t, scratch, a->head_dim, count * BLOCK_ROWS(b->block));
    int64_t size = a->kv_f32 ? 4 : 2;
    struct upcoming u = {.k = k, .v = v, .step = a->kv_stride * size, .bytes = a->head_dim * size};
    PRODUCTS_BEGIN();
    for (int64_t j = j0; j < j1; j++) {
        int past = block_any(a, b, count, j), own = j < block0 + count && block_segment(b, j) >= block_segment(b, block0);
        int64_t end = (j + 1) * b->block < b->keys ? (j + 1) * b->block : b->keys, next = j + 1;
        if (past) {
            while (next < j1 && !block_any(a, b, count, next)) next++;
            u.base = u.end = next * b->block;
            if (next < j1) u.end = u.base + b->block < b->keys ? u.base + b->block : b->keys;
            u.perm = b->perm && u.base < b->sorted ? b->perm : NULL, u.segment = u.base / b->segment * b->segment;
        }
        for (int64_t base = j * b->block; (past || own) && base < end; base += KT) {
            int64_t n = end - base < KT ? end - base : KT;
            for (int order = past; order >= 1 - own; order--) {
                block_keys(&t, b, base, n, order);
                tile_pack_keys(&t, a, k, n);
                tile_pack_values(&t, a, v, n);
                if (order) past_tile(&t, a, b, j, n, &u);
                else own_tile(&t, a, b, v, j, base, n);
            }
        }
    }
    if (b->columns) block_columns(&t, a, b, k, v, j0 * b->block, j1 * b->block < b->keys ? j1 * b->block : b->keys);
    PRODUCTS_END();
}

TARGET void FN(pbs_blocks_end_)(const struct attend_args *a, const struct attend_blocks *b, void *scratch, void *out) {
    struct tile t;
    int64_t count = block_count(a, b), n;
    tile_carve(&t, scratch, a->head_dim, count * BLOCK_ROWS(b->block));
    for (int64_t i = 0; i < count; i++) {
        int64_t pos = block_positions(a, b, i, &n);
        tile_output(&t, a, i * BLOCK_ROWS(b->block), (char *)out + (pos - a->first) * a->out_stride * (PAIRS ? 2 : 4), n);
    }
}

// rank_scores computes the scores of rows [row0, row0+rows) and keys [key0, key0+n) of the packed tile; those that fill up the
// last panel get -inf.
TARGET static void rank_scores(const struct tile *t, int64_t row0, int64_t rows, int64_t key0, int64_t n) {
    products_scores(t, row0, rows, key0, n);
    for (int64_t r = 0; n % NR && r < rows; r++)
        for (int64_t i = n; i < attend_round_up(n, NR); i++) t->scores[r * ST + i] = -__builtin_inff();
}

// rank_stats moves a row's maximum and sum on by n scores.
TARGET ALWAYS_INLINE void rank_stats(const struct tile *t, int64_t row, const float *s, int64_t n, float c) {
    V m0 = VSET1(-__builtin_inff()), m1 = m0, l0 = VSET1(0), l1 = l0;
    for (int64_t i = 0; i < n; i += NR) m0 = VMAX(VLOAD(s + i), m0), m1 = VMAX(VLOAD(s + i + VL), m1);
    float old = t->max[row];
    V sum = VLOAD(t->sum + row * VL);
    m0 = VMAX(m0, m1);
    if (VANY_ABOVE(m0, (old + STALE) / c)) {
        t->max[row] = VHMAX(m0) * c;
        sum = VFMA(sum, VSET1(__builtin_exp2f(old - t->max[row])), VSET1(0));
    }
    V cv = VSET1(c), shift = VSET1(-t->max[row]);
    for (int64_t i = 0; i < n; i += NR) {
        l0 = VADD(l0, VEXP2(VFMA(VLOAD(s + i), cv, shift)));
        l1 = VADD(l1, VEXP2(VFMA(VLOAD(s + i + VL), cv, shift)));
    }
    VSTORE(t->sum + row * VL, VADD(sum, VADD(l0, l1)));
}

// rank_sums adds n probabilities of some rows, each times its weight, to out. Rows lie `apart` in scores and in stats, which holds
// their maxima and weights.
TARGET ALWAYS_INLINE void rank_sums(float *out, float *s, int64_t n, float c, const float *stats, int64_t apart, int rows) {
    V cv = VSET1(c), shift[4], w[4];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) shift[r] = VSET1(-stats[2 * r * apart]), w[r] = VSET1(stats[2 * r * apart + 1]);
    int64_t i = 0;
    for (; i < n; i += VL) {
        float last[VL];
        float *to = out + i;
        if (i + VL > n) memset(last, 0, sizeof last), memcpy(last, to, (n - i) * 4), to = last;
        V sum = VLOAD(to);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) sum = VFMA(VEXP2(VFMA(VLOAD(s + r * apart * ST + i), cv, shift[r])), w[r], sum);
        VSTORE(to, sum);
        if (to == last) memcpy(out + i, last, (n - i) * 4);
    }
}

TARGET void FN(pbs_rank_keys_)(const struct attend_args *a, void *scratch, const void *k, int64_t k0, int64_t k1, float *stats, float *out,
                               int64_t out_stride) {
#ifdef OWN_RANKING
    if (OWN_RANKING(a->positions)) {
        rank_queries(a, scratch, k, k0, k1, stats, out, out_stride);
        return;
    }
#endif
    struct tile t;
    int64_t rows = a->positions * a->group;
    tile_carve(&t, scratch, a->head_dim, rows);
    float c = a->scale * ATTEND_LOG2E;
    PRODUCTS_BEGIN();
    for (int64_t base = k0; base < k1; base += KT) {
        int64_t n = k1 - base < KT ? k1 - base : KT;
        for (int64_t i = 0; i < n; i++) t.kpos[i] = (int32_t)(base + i);
        tile_pack_keys(&t, a, k, n);
        for (int64_t h = 0; out && h < a->group; h++) memset(out + h * out_stride + base, 0, n * sizeof *out);
        for (int64_t r0 = 0; r0 < t.rows; r0 += RG)
            for (int64_t key = 0; key < n; key += ST) {
                int64_t w = n - key < ST ? n - key : ST;
                rank_scores(&t, r0, t.rows - r0 < RG ? t.rows - r0 : RG, key, w);
                int64_t end = rows < r0 + RG ? rows : r0 + RG;
                for (int64_t r = r0; !out && r < end; r++) rank_stats(&t, r, t.scores + (r - r0) * ST, attend_round_up(w, NR), c);
                for (int64_t first = r0; out && first < end && first < r0 + a->group; first++) {  // the rows of a head, four at a time
                    float *to = out + first % a->group * out_stride + base + key;
                    int64_t r = first;
                    for (; r + 3 * a->group < end; r += 4 * a->group) rank_sums(to, t.scores + (r - r0) * ST, w, c, stats + 2 * r, a->group, 4);
                    for (; r < end; r += a->group) rank_sums(to, t.scores + (r - r0) * ST, w, c, stats + 2 * r, a->group, 1);
                }
            }
    }
    PRODUCTS_END();
    for (int64_t r = 0; !out && r < rows; r++) stats[2 * r] = t.max[r], stats[2 * r + 1] = VHSUM(VLOAD(t.sum + r * VL));
}
