// Products of a few rows of x with rows of weights, included once per instruction set after its vec_*.h. Memory is the limit:
// each line of the weights is loaded once and whole, and prefetched across the page ends at which the hardware's
// streams stop. A line of bf16 splits into even and odd elements in two cheap operations, which is why x comes split
// (see pbs_gemv_x); halves and f32 keep their order.
//
// The file that includes this defines TARGET, the vectors, DOT, the name of the function, and two lengths in bytes that were
// measured: DOT_AHEAD, how far prefetches run ahead, and DOT_STEP, the weights between two tests of the loop.

// Where x is too long for the L1 cache (PBS_WIDE), four weight rows share each load of a single row of x, which comes from L2
// then: one weight row at a time ran at half the speed of memory there.

enum { WIDE = 4 };

// dot_sums is the number of sums a product is spread over: as many as registers allow for so many products at once.
#define dot_sums(products) ((products) > 2 && VL == 8 ? 2 : 4)

// dot_chunk adds the products of PBS_CHUNK elements at w, in `cols` rows of weights, with rows of x to their sums.
TARGET ALWAYS_INLINE void dot_chunk(V s[][4], int chunk, const char *w, int64_t stride, int cols, int dtype, const float *x, int64_t ldx,
                                    int rows, int sums) {
#pragma GCC unroll 8
    for (int i = 0; i < PBS_CHUNK / VL; i += 2) {
        int at = i * VL, next = at + VL, n = (chunk * (PBS_CHUNK / VL) + i) % sums;
#pragma GCC unroll 4
        for (int c = 0; c < cols; c++) {
            const char *p = w + c * stride;
            int xa = at, xb = next;
            V a, b;
            if (dtype == PBS_BF16) {
                VPAIR(p + 2 * at, a, b);
                xa = at / 2, xb = xa + PBS_CHUNK / 2;
            } else if (dtype == PBS_F16) a = VHALF(p + 2 * at), b = VHALF(p + 2 * next);
            else a = VLOAD((const float *)p + at), b = VLOAD((const float *)p + next);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                s[c + r][n] = VFMA(a, VLOAD(x + r * ldx + xa), s[c + r][n]);
                s[c + r][n + 1] = VFMA(b, VLOAD(x + r * ldx + xb), s[c + r][n + 1]);
            }
        }
    }
}

// dot_group multiplies one weight row with rows of x, or `cols` weight rows with one.
TARGET ALWAYS_INLINE void dot_group(float *sum, int64_t lds, const char *w, int64_t stride, int cols, int dtype, const float *x, int64_t ldx,
                                    int rows, int64_t k, int wide, int prefetch) {
    int size = dtype == PBS_F32 ? 4 : 2, chunks = DOT_STEP / (size * PBS_CHUNK), sums = dot_sums(wide ? WIDE : rows);
    char tail[WIDE][4 * PBS_CHUNK];
    V s[4][4];
    int64_t i = 0;
#pragma GCC unroll 4
    for (int r = 0; r < rows * cols; r++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) s[r][j] = VSET1(0);
    for (; i + chunks * PBS_CHUNK <= k; i += chunks * PBS_CHUNK) {
        const char *p = w + i * size;
        if (prefetch) {
            // Past the end of a row lies the next one; a group has had that one, so it looks ahead to its row of the next group.
            const char *ahead = p + DOT_AHEAD + (i * size + DOT_AHEAD < k * size ? 0 : (cols - 1) * stride);
#pragma GCC unroll 4
            for (int c = 0; c < cols; c++, ahead += stride)
#pragma GCC unroll 8
                for (int l = 0; l < DOT_STEP; l += 64) __builtin_prefetch(ahead + l);
        }
#pragma GCC unroll 8
        for (int c = 0; c < chunks; c++)
            dot_chunk(s, c, p + c * PBS_CHUNK * size, stride, cols, dtype, x + i + c * PBS_CHUNK, ldx, rows, sums);
    }
    for (; i + PBS_CHUNK <= k; i += PBS_CHUNK) dot_chunk(s, 0, w + i * size, stride, cols, dtype, x + i, ldx, rows, sums);
    if (i < k) {
        memset(tail, 0, sizeof tail);
        for (int c = 0; c < cols; c++) memcpy(tail[c], w + c * stride + i * size, (k - i) * size);
        dot_chunk(s, 0, tail[0], sizeof tail[0], cols, dtype, x + i, ldx, rows, sums);
    }
#pragma GCC unroll 4
    for (int c = 0; c < cols; c++)
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            sum[c + r * lds] = VHSUM(VADD(VADD(s[c + r][0], s[c + r][1]), VADD(s[c + r][2], s[c + r][3])));
}

// dot_rows is compiled for each number of rows and dtype. Whether it groups weight rows depends on k alone, so that a sum does not
// depend on how the rows are shared out.
TARGET ALWAYS_INLINE void dot_rows(float *sum, int64_t lds, const struct pbs_weights *w, int dtype, int64_t n, const float *x, int64_t ldx,
                                   int rows, int64_t k, int hints) {
    const char *p = w->w;
    int64_t j = 0;
    int wide = rows == 1 && (hints & PBS_WIDE), prefetch = !(hints & PBS_NO_PREFETCH);
    if (wide) {
        for (; j + WIDE <= n; j += WIDE, p += WIDE * w->stride) dot_group(sum + j, lds, p, w->stride, WIDE, dtype, x, ldx, 1, k, 1, prefetch);
        for (; j < n; j++, p += w->stride) dot_group(sum + j, lds, p, w->stride, 1, dtype, x, ldx, 1, k, 1, prefetch);
        return;
    }
    for (; j < n; j++, p += w->stride) dot_group(sum + j, lds, p, w->stride, 1, dtype, x, ldx, rows, k, 0, prefetch);
}

#define DOT_ROWS(DTYPE)                                                   \
    switch (rows) {                                                       \
    case 1: dot_rows(sum, lds, w, DTYPE, n, x, ldx, 1, k, hints); return; \
    case 2: dot_rows(sum, lds, w, DTYPE, n, x, ldx, 2, k, hints); return; \
    case 3: dot_rows(sum, lds, w, DTYPE, n, x, ldx, 3, k, hints); return; \
    default: dot_rows(sum, lds, w, DTYPE, n, x, ldx, 4, k, hints); return; \
    }

TARGET void DOT(float *sum, int64_t lds, const struct pbs_weights *w, int64_t n, const float *x, int64_t ldx, int64_t rows, int64_t k,
                int32_t hints) {
    if (w->dtype == PBS_F32) DOT_ROWS(PBS_F32)
    if (w->dtype == PBS_BF16) DOT_ROWS(PBS_BF16)
    DOT_ROWS(PBS_F16)
}
