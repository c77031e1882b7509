// pbs_rank_keys with keys as the rows of the products and queries as their columns, included by attend_amx.c.
//
// Queries are then what is packed, once per item, and keys are multiplied where they lie in the cache. A column of scores is a row of
// attend.h, so that maxima and sums run down the columns, sixteen at a time. The scores of a step are 32 keys by 32 queries of one head,
// and the products of a step are under way while the step before takes its exponentials.

// Keys whose sums over the queries of a head are kept side by side.
#define RANK_KEYS 128

struct ranking {
    struct tile t;
    const struct attend_args *a;
    int64_t panels;  // of 32 queries of one head, in t.out: [panels][dims_pad][32]
    int64_t per;     // of them for each head
    float c;
    // Either stats or out is set. For every query, t.max holds the negated maximum and t.sum what follows it in stats.
    float *stats, *out;
    int64_t out_stride;
    const char *k;
    const float *staged;  // the last keys of a chunk, or all that are not rows of whole tiles: [RANK_KEYS][dims_pad]
    float *sums;          // of keys in lanes of queries: [RANK_KEYS][VL]
};

// A step: the scores of keys [key, key+n) of the chunk at base with a panel's queries.
struct rank_step {
    const float *scores;  // [32 keys][32 queries]
    int64_t base, key, n, panel, head;
    int first, last;  // of the head, for these keys
};

// rank_row is the row of attend.h that query i of a panel is.
ALWAYS_INLINE int64_t rank_row(const struct ranking *x, int64_t panel, int64_t i) {
    return (panel % x->per * NR + i) * x->a->group + panel / x->per;
}

TARGET static void rank_begin(struct ranking *x) {
    const struct tile *t = &x->t;
    for (int64_t p = 0; p < x->panels; p++)
        for (int64_t i = 0; i < NR; i++) {
            int64_t row = rank_row(x, p, i), at = p * NR + i;
            if (i % VL == 0)
                for (int64_t d = 0; d < t->dims_pad; d += VL)
                    TRANSPOSE(t->out + (p * t->dims_pad + d) * NR + i, t->q + row * t->dims_pad + d, x->a->group * t->dims_pad);
            t->max[at] = x->out ? -x->stats[2 * row] : -ATTEND_LOWEST;
            t->sum[at] = x->out ? x->stats[2 * row + 1] : 0;
        }
}

// rank_stage copies those of the n keys from base on that cannot be multiplied in place, and returns how many can.
TARGET static int64_t rank_stage(const struct ranking *x, int64_t base, int64_t n) {
    const struct attend_args *a = x->a;
    int64_t direct = !a->kv_f32 && a->head_dim % 32 == 0 && a->kv_stride % 2 == 0 ? n / 32 * 32 : 0;
    for (int64_t i = direct; i < attend_round_up(n, 32); i++) {
        uint32_t *row = (uint32_t *)x->staged + i * x->t.dims_pad;
        memset(row, 0, x->t.dims_pad * 4);
        if (i < n) tile_row(row, x->k + (base + i) * a->kv_stride * (a->kv_f32 ? 4 : 2), a->head_dim, a->kv_f32);
    }
    return direct;
}

// rank_prefetch asks for as many of the keys from base on as fall to one of a chunk's `steps` steps.
TARGET ALWAYS_INLINE void rank_prefetch(const struct ranking *x, int64_t base, int64_t end, int64_t step, int64_t steps) {
    int64_t size = x->a->kv_f32 ? 4 : 2, hi = base + (step + 1) * RANK_KEYS / steps;
    for (int64_t key = base + step * RANK_KEYS / steps; key < hi && key < end; key++)
        for (int64_t l = 0; l < x->a->head_dim * size; l += 64) __builtin_prefetch(x->k + key * x->a->kv_stride * size + l, 0, 2);
}

// rank_column moves the maximum and the sum of 16 queries on by the keys of a step.
TARGET ALWAYS_INLINE void rank_column(const struct ranking *x, const struct rank_step *s, int64_t i) {
    float *max = x->t.max + s->panel * NR + i, *sum = x->t.sum + s->panel * NR + i;
    const float *scores = s->scores + i;
    V cv = VSET1(x->c), shift = VLOAD(max), l0 = VLOAD(sum), l1 = VSET1(0), m0 = VSET1(-__builtin_inff()), m1 = m0;
    int64_t k = 0;
    for (; k + 2 <= s->n; k += 2) m0 = VMAX(VLOAD(scores + k * NR), m0), m1 = VMAX(VLOAD(scores + (k + 1) * NR), m1);
    if (k < s->n) m0 = VMAX(VLOAD(scores + k * NR), m0);
    V top = _mm512_mul_ps(VMAX(m0, m1), cv);
    __mmask16 above = VANY_ABOVE(VADD(top, shift), STALE);
    if (above) {
        V old = shift;
        shift = _mm512_mask_sub_ps(shift, above, VSET1(0), top);
        l0 = _mm512_mask_mul_ps(l0, above, l0, vexp2(_mm512_sub_ps(shift, old)));
        VSTORE(max, shift);
    }
    for (k = 0; k + 2 <= s->n; k += 2) {
        l0 = VADD(l0, VEXP2(VFMA(VLOAD(scores + k * NR), cv, shift)));
        l1 = VADD(l1, VEXP2(VFMA(VLOAD(scores + (k + 1) * NR), cv, shift)));
    }
    if (k < s->n) l0 = VADD(l0, VEXP2(VFMA(VLOAD(scores + k * NR), cv, shift)));
    VSTORE(sum, VADD(l0, l1));
}

// rank_weigh adds the weighted probabilities of a step to the sums of its keys, in lanes, and after a head's last step their totals to out.
TARGET ALWAYS_INLINE void rank_weigh(const struct ranking *x, const struct rank_step *s) {
    const float *max = x->t.max + s->panel * NR, *sum = x->t.sum + s->panel * NR;
    V cv = VSET1(x->c), shift0 = VLOAD(max), shift1 = VLOAD(max + VL), w0 = VLOAD(sum), w1 = VLOAD(sum + VL);
    float *sums = x->sums + s->key * VL;
    for (int64_t k = 0; k < 32; k++) {
        const float *scores = s->scores + k * NR;
        V p = s->first ? VSET1(0) : VLOAD(sums + k * VL);
        p = VFMA(VEXP2(VFMA(VLOAD(scores), cv, shift0)), w0, p);
        VSTORE(sums + k * VL, VFMA(VEXP2(VFMA(VLOAD(scores + VL), cv, shift1)), w1, p));
    }
    if (!s->last) return;
    float totals[2 * VL * VL];
    V v[2] = {VSET1(0), VSET1(0)};
    for (int h = 0; h < 2; h++) {
        TRANSPOSE(totals + h * VL, sums + h * VL * VL, VL);
        for (int i = 0; i < VL; i++) v[h] = VADD(v[h], VLOAD(totals + i * NR + h * VL));
    }
    VSTORE(totals, v[0]), VSTORE(totals + VL, v[1]);
    memcpy(x->out + s->head * x->out_stride + s->base + s->key, totals, s->n * sizeof *totals);
}

TARGET ALWAYS_INLINE void rank_take(const struct ranking *x, const struct rank_step *s) {
    if (x->out) rank_weigh(x, s);
    else rank_column(x, s, 0), rank_column(x, s, VL);
}

TARGET static void rank_queries(const struct attend_args *a, void *scratch, const void *k, int64_t k0, int64_t k1, float *stats, float *out,
                                int64_t out_stride) {
    struct ranking x = {.a = a, .c = a->scale * ATTEND_LOG2E, .stats = stats, .out = out, .out_stride = out_stride, .k = k};
    const struct tile *t = &x.t;
    tile_carve(&x.t, scratch, a->head_dim, a->positions * a->group);
    x.panels = t->rows / NR, x.per = a->positions / NR, x.staged = t->k, x.sums = t->v;
    rank_begin(&x);
    tiles_begin();
    struct rank_step now, before = {0};
    int64_t steps = 0;
    for (int64_t base = k0; base < k1; base += RANK_KEYS) {
        int64_t n = k1 - base < RANK_KEYS ? k1 - base : RANK_KEYS, direct = rank_stage(&x, base, n);
        FENCE();
        for (int64_t panel = 0; panel < x.panels; panel++) {
            int64_t head = panel / x.per, of_head = panel % x.per;
            for (int64_t key = 0; key < n; key += 32, before = now) {
                float *scores = t->scores + steps++ % 2 * 32 * NR;
                int in_place = key < direct;
                const float *rows = in_place ? (const float *)((const char *)k + (base + key) * a->kv_stride * 2) : x.staged + key * t->dims_pad;
                rank_prefetch(&x, base + RANK_KEYS, k1, panel * (RANK_KEYS / 32) + key / 32, x.panels * (RANK_KEYS / 32));
                tiles_zero();
                tiles_multiply(rows, in_place ? a->kv_stride / 2 : t->dims_pad, t->out + panel * t->dims_pad * NR, t->dims_pad / 16, 1);
                tiles_store(scores, NR, 1);
                now = (struct rank_step){
                    .scores = scores, .base = base, .key = key, .n = n - key < 32 ? n - key : 32, .panel = panel, .head = head,
                    .first = of_head == 0, .last = of_head == x.per - 1,
                };
                if (before.scores) rank_take(&x, &before);
            }
        }
    }
    if (before.scores) rank_take(&x, &before);
    _tile_release();
    for (int64_t p = 0; !out && p < x.panels; p++)
        for (int64_t i = 0; i < NR; i++) {
            float *s = stats + 2 * rank_row(&x, p, i);
            s[0] = -t->max[p * NR + i], s[1] = t->sum[p * NR + i];
        }
}
