// Products of a few rows of x with rows of weights, included once per instruction set after its vec_*.h. Memory is the limit:
// each line of the weights is loaded once and whole, and prefetched across the page ends at which the hardware's
// streams stop. A line of bf16 splits into even and odd elements in two cheap operations, which is why x comes split
// (see pbs_gemv_x); halves and f32 keep their order.
//
// The file that includes this defines TARGET, the vectors, DOT, the name of the function, and two lengths in bytes that were
// measured: DOT_AHEAD, how far prefetches run ahead, and DOT_STEP, the weights between two tests of the loop.

// dot_chunk adds the products of PBS_CHUNK elements at w with rows of x to their sums.
TARGET ALWAYS_INLINE void dot_chunk(V s[][4], int chunk, const char *w, int dtype, const float *x, int64_t ldx, int rows) {
    int sums = rows > 2 && VL == 8 ? 2 : 4;  // as many as registers allow
#pragma GCC unroll 8
    for (int i = 0; i < PBS_CHUNK / VL; i += 2) {
        V a, b;
        int at = i * VL, next = at + VL;
        if (dtype == PBS_BF16) {
            VPAIR(w + 2 * at, a, b);
            at /= 2, next = at + PBS_CHUNK / 2;
        } else if (dtype == PBS_F16) a = VHALF(w + 2 * at), b = VHALF(w + 2 * next);
        else a = VLOAD((const float *)w + at), b = VLOAD((const float *)w + next);
        int n = (chunk * (PBS_CHUNK / VL) + i) % sums;
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            s[r][n] = VFMA(a, VLOAD(x + r * ldx + at), s[r][n]);
            s[r][n + 1] = VFMA(b, VLOAD(x + r * ldx + next), s[r][n + 1]);
        }
    }
}

TARGET ALWAYS_INLINE void dot_row(float *sum, int64_t lds, const char *w, int dtype, const float *x, int64_t ldx, int rows, int64_t k) {
    int size = dtype == PBS_F32 ? 4 : 2, chunks = DOT_STEP / (size * PBS_CHUNK);
    char tail[4 * PBS_CHUNK];
    V s[4][4];
    int64_t i = 0;
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) s[r][j] = VSET1(0);
    for (; i + chunks * PBS_CHUNK <= k; i += chunks * PBS_CHUNK) {
        const char *p = w + i * size;
#pragma GCC unroll 8
        for (int l = 0; l < DOT_STEP; l += 64) __builtin_prefetch(p + DOT_AHEAD + l);
#pragma GCC unroll 8
        for (int c = 0; c < chunks; c++) dot_chunk(s, c, p + c * PBS_CHUNK * size, dtype, x + i + c * PBS_CHUNK, ldx, rows);
    }
    for (; i + PBS_CHUNK <= k; i += PBS_CHUNK) dot_chunk(s, 0, w + i * size, dtype, x + i, ldx, rows);
    if (i < k) {
        memset(tail, 0, sizeof tail);
        memcpy(tail, w + i * size, (k - i) * size);
        dot_chunk(s, 0, tail, dtype, x + i, ldx, rows);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) sum[r * lds] = VHSUM(VADD(VADD(s[r][0], s[r][1]), VADD(s[r][2], s[r][3])));
}

// dot_rows is compiled for each number of rows and dtype.
TARGET ALWAYS_INLINE void dot_rows(float *sum, int64_t lds, const struct pbs_weights *w, int dtype, int64_t n, const float *x, int64_t ldx,
                                   int rows, int64_t k) {
    const char *p = w->w;
    for (int64_t j = 0; j < n; j++, p += w->stride) dot_row(sum + j, lds, p, dtype, x, ldx, rows, k);
}

#define DOT_ROWS(DTYPE)                                                   \
    switch (rows) {                                                       \
    case 1: dot_rows(sum, lds, w, DTYPE, n, x, ldx, 1, k); return;        \
    case 2: dot_rows(sum, lds, w, DTYPE, n, x, ldx, 2, k); return;        \
    case 3: dot_rows(sum, lds, w, DTYPE, n, x, ldx, 3, k); return;        \
    default: dot_rows(sum, lds, w, DTYPE, n, x, ldx, 4, k); return;       \
    }

TARGET void DOT(float *sum, int64_t lds, const struct pbs_weights *w, int64_t n, const float *x, int64_t ldx, int64_t rows, int64_t k) {
    if (w->dtype == PBS_F32) DOT_ROWS(PBS_F32)
    if (w->dtype == PBS_BF16) DOT_ROWS(PBS_BF16)
    DOT_ROWS(PBS_F16)
}
