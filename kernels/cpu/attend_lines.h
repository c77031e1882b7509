// The mass of columns and diagonals under the last queries, on the tiles of attend_tile.h and with the statistics of
// attend_blocks.h, included after both.
#include "attend_score.h"

// line_sums adds n probabilities of a row, times its weight, to column and, shifted, to slash.
TARGET ALWAYS_INLINE void line_sums(float *column, float *slash, float *s, int64_t n, float c, float max, float weight) {
    V cv = VSET1(c), shift = VSET1(-max), w = VSET1(weight), zero = VSET1(0);
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        V p = VFMA(VEXP2(VFMA(VLOAD(s + i), cv, shift)), w, zero);
        VSTORE(column + i, VADD(p, VLOAD(column + i)));
        VSTORE(slash + i, VADD(p, VLOAD(slash + i)));
    }
    if (i == n) return;
    VSTORE(s + i, VFMA(VEXP2(VFMA(VLOAD(s + i), cv, shift)), w, zero));
    for (; i < n; i++) column[i] += s[i], slash[i] += s[i];
}

TARGET void FN(pbs_line_keys_)(const struct attend_args *a, void *scratch, const void *k, int64_t k0, int64_t k1, float *stats, float *out,
                               int64_t out_stride, float *slash, int64_t slash_stride) {
    struct tile t;
    int64_t rows = a->positions * a->group;
    tile_carve(&t, scratch, a->head_dim, rows);
    float c = a->scale * ATTEND_LOG2E;
    for (int64_t h = 0; out && h < a->group; h++) {
        memset(out + h * out_stride + k0, 0, (k1 - k0) * sizeof *out);
        memset(slash + h * slash_stride, 0, (k1 - k0 + a->positions - 1) * sizeof *slash);
    }
    PRODUCTS_BEGIN();
    for (int64_t base = k0; base < k1; base += KT) {
        int64_t n = k1 - base < KT ? k1 - base : KT;
        for (int64_t i = 0; i < KT; i++) t.kpos[i] = i < n ? (int32_t)(base + i) : INT32_MAX;
        tile_pack_keys(&t, a, k, n);
        for (int64_t r0 = 0; r0 < t.rows; r0 += RG)
            for (int64_t key = 0; key < n; key += ST) {
                int64_t w = n - key < ST ? n - key : ST, whole = attend_round_up(w, NR);
                int hides = t.pos[r0] < base + key + w - 1 || w < whole;
                products_scores(&t, r0, t.rows - r0 < RG ? t.rows - r0 : RG, key, w);
                for (int64_t r = r0; r < rows && r < r0 + RG; r++) {
                    float *s = t.scores + (r - r0) * ST;
                    for (int64_t i = 0; hides && i < whole; i += VL)
                        VSTORE(s + i, VVISIBLE(VLOAD(s + i), t.kpos + key + i, t.pos[r]));
                    if (!out) {
                        rank_stats(&t, r, s, whole, c);
                        continue;
                    }
                    int64_t h = r % a->group, back = a->positions - 1 - r / a->group;
                    line_sums(out + h * out_stride + base + key, slash + h * slash_stride + base - k0 + key + back, s, w, c, stats[2 * r],
                              stats[2 * r + 1]);
                }
            }
    }
    PRODUCTS_END();
    for (int64_t r = 0; !out && r < rows; r++) stats[2 * r] = t.max[r], stats[2 * r + 1] = VHSUM(VLOAD(t.sum + r * VL));
}
