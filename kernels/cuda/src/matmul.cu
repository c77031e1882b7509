// Matrix products out = x·wᵀ (+ bias) (+ out) with f32 sums, where cuBLASLt is absent or does worse: SwiGLU in one pass, and the few rows
// of decode.
#include "mma.cuh"

struct MatmulArgs {
    void *out;                    // [rows, n]; F32, for SwiGLU BF16
    const uint16_t *x, *w, *up;   // [rows, k], [n, k], and for SwiGLU [n, k]; rows 16-byte aligned, k a multiple of 8
    const void *bias, *up_bias;   // [n] or null
    int64_t out_stride, x_stride, w_stride, up_stride, rows;
    int32_t n, k, bias_dtype, up_bias_dtype, add, swiglu;
};

DEVICE float silu(float x) { return x / (1 + expf(-x)); }

// finish writes element (row, col) from its sum, and for SwiGLU from that of up.
DEVICE void finish(const MatmulArgs &a, int64_t row, int col, float sum, float up) {
    if (a.bias) sum += element(a.bias, a.bias_dtype, col);
    if (a.swiglu) {
        if (a.up_bias) up += element(a.up_bias, a.up_bias_dtype, col);
        store(a.out, BF16, row * a.out_stride + col, silu(sum) * up);
        return;
    }
    float *out = static_cast<float *>(a.out) + row * a.out_stride + col;
    *out = a.add ? *out + sum : sum;
}

// Tiles of 128 rows by N columns, k in steps of 64 through two stages of shared memory; eight warps of 64 rows by N/4 columns. For SwiGLU
// the weight tile is N/2 rows of gate and N/2 rows of up, interleaved by eights, so that a thread holds both of an element.
template <int N, bool SWIGLU> DEVICE void gemm(const MatmulArgs &a) {
    constexpr int M = 128, K = 64, THREADS = 256, STAGE = (M + N) * K, COLS = SWIGLU ? N / 2 : N;
    uint16_t *memory = reinterpret_cast<uint16_t *>(shared_memory());
    int64_t tiles = ceil_div(a.rows, M), row0 = block_id() % tiles * M;
    int col0 = static_cast<int>(block_id() / tiles) * COLS;
    Rows x = {a.x, a.x_stride, a.k}, w = {a.w, a.w_stride, a.k}, up = {a.up, a.up_stride, a.k};
    auto load = [&](int stage, int k) {
        uint16_t *tile = memory + stage * STAGE;
        load_tile<M, K, THREADS>(tile, x, row0, a.rows, k);
        tile += M * K;
        UNROLL for (int i = 0; i < N * K / 8 / THREADS; i++) {
            int n = i * THREADS + thread(), r = n / (K / 8), c = n % (K / 8);
            int64_t col = col0 + (SWIGLU ? r / 16 * 8 + r % 8 : r);
            bool is_up = SWIGLU && r % 16 >= 8;
            load_chunk(tile + tile_at<K>(r, c), is_up ? up : w, col, k / 8 + c, col < a.n);
        }
    };
    int wm = warp() % 2 * 64, wn = warp() / 2 * (N / 4);
    float c[4][N / 32][4];
    UNROLL for (int i = 0; i < 4; i++)
        UNROLL for (int j = 0; j < N / 32; j++)
            UNROLL for (int r = 0; r < 4; r++) c[i][j][r] = 0;
    int steps = static_cast<int>(ceil_div(a.k, K));
    load(0, 0);
    copy_commit();
    NO_UNROLL for (int s = 0; s < steps; s++) {
        copy_wait<0>();
        sync_block();
        if (s + 1 < steps) load((s + 1) % 2, (s + 1) * K);
        copy_commit();
        const uint16_t *xt = memory + s % 2 * STAGE, *wt = xt + M * K;
        UNROLL for (int k = 0; k < K / 16; k++) {
            uint32_t xa[4][4], wb[N / 64][4];
            UNROLL for (int i = 0; i < 4; i++) fragment_a<K>(xa[i], xt, wm + i * 16, k);
            UNROLL for (int j = 0; j < N / 64; j++) fragment_b<K>(wb[j], wt, wn + j * 16, k);
            UNROLL for (int i = 0; i < 4; i++)
                UNROLL for (int j = 0; j < N / 32; j++) mma(c[i][j], xa[i], wb[j / 2][j % 2 * 2], wb[j / 2][j % 2 * 2 + 1]);
        }
    }
    copy_wait<0>();
    int g = lane() / 4, t = lane() % 4 * 2;
    UNROLL for (int i = 0; i < 4; i++)
        UNROLL for (int r = 0; r < 4; r++) {
            int64_t row = row0 + wm + i * 16 + g + r / 2 * 8;
            if (row >= a.rows) continue;
            UNROLL for (int j = 0; j < N / 32; j += SWIGLU ? 2 : 1) {
                int col = col0 + (SWIGLU ? (wn + j * 8) / 2 : wn + j * 8) + t + r % 2;
                if (col < a.n) finish(a, row, col, c[i][j][r], SWIGLU ? c[i][j + 1][r] : 0);
            }
        }
}

// A grid of ceil(rows/128) · ceil(n/128) blocks; for SwiGLU ceil(n/64) of columns. Shared memory: two stages of 32 KiB.
KERNEL(gemm_128, MatmulArgs, 256, 1) { gemm<128, false>(a); }
KERNEL(gemm_swiglu, MatmulArgs, 256, 1) { gemm<128, true>(a); }

// dot_rows adds to sum[r] the products of a weight row with R rows of x, of which the first a.rows exist.
template <int R> DEVICE void dot_rows(float (&sum)[R], const MatmulArgs &a, const uint16_t *w) {
    struct alignas(16) Chunk {
        uint32_t u[4];
    };
    UNROLL_4 for (int k = lane() * 8; k < a.k; k += 256) {
        Chunk y = *reinterpret_cast<const Chunk *>(w + k);
        UNROLL for (int r = 0; r < R; r++) {
            if (r >= a.rows) break;
            Chunk z = *reinterpret_cast<const Chunk *>(a.x + r * a.x_stride + k);
            UNROLL for (int i = 0; i < 4; i++) {
                sum[r] += float_of(y.u[i] << 16) * float_of(z.u[i] << 16);
                sum[r] += float_of(y.u[i] & 0xffff0000) * float_of(z.u[i] & 0xffff0000);
            }
        }
    }
}

// A warp computes one column of out for all rows: bound by reading w, once. A grid of ceil(n/8) blocks.
template <int R> DEVICE void gemv(const MatmulArgs &a) {
    int64_t col = block_id() * 8 + warp();
    if (col >= a.n) return;
    float sum[R], up[R];
    UNROLL for (int r = 0; r < R; r++) sum[r] = up[r] = 0;
    dot_rows<R>(sum, a, a.w + col * a.w_stride);
    if (a.swiglu) dot_rows<R>(up, a, a.up + col * a.up_stride);
    UNROLL for (int r = 0; r < R; r++) {
        if (r >= a.rows) return;
        float s = warp_sum(sum[r]), u = a.swiglu ? warp_sum(up[r]) : 0;
        if (lane() == 0) finish(a, r, static_cast<int>(col), s, u);
    }
}

KERNEL(gemv_1, MatmulArgs, 256, 1) { gemv<1>(a); }
KERNEL(gemv_8, MatmulArgs, 256, 1) { gemv<8>(a); }
