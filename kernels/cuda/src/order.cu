// The order of keys: scores of the last queries, their softmax summed by key and by distance, sorting inside segments, block means.
#include "mma.cuh"

// score_rows: scores q·k of some rows with all keys, those behind a row's position -inf where `causal`. Tiles of 64 rows by 64 keys,
// a warp 16 rows. A grid of (key tiles, row tiles, heads). Shared memory: Q and K [64][D].
struct ScoreArgs {
    float *out;              // [heads of the grid][rows][stride]
    const uint16_t *q, *k;   // rows 16-byte aligned
    int64_t q_stride, kv_stride, kv_head_stride, stride, keys, first;  // first: position of row 0
    int32_t rows, head0, group, width, causal;
};

template <int D> DEVICE void score_rows(const ScoreArgs &a) {
    uint16_t *qt = reinterpret_cast<uint16_t *>(shared_memory()), *kt = qt + 64 * D;
    int64_t key0 = static_cast<int64_t>(blockIdx.x) * 64;
    int row0 = blockIdx.y * 64, head = a.head0 + blockIdx.z;
    Rows q = {a.q + head * a.width, a.q_stride, a.width}, k = {a.k + head / a.group * a.kv_head_stride, a.kv_stride, a.width};
    load_tile<64, D, 128>(qt, q, row0, a.rows, 0);
    load_tile<64, D, 128>(kt, k, key0, a.keys, 0);
    copy_commit();
    copy_wait<0>();
    sync_block();
    float s[8][4];
    UNROLL for (int n = 0; n < 8; n++)
        UNROLL for (int i = 0; i < 4; i++) s[n][i] = 0;
    UNROLL_4 for (int d = 0; d < D / 16; d++) {
        uint32_t qa[4], kb[4];
        fragment_a<D>(qa, qt, warp() * 16, d);
        UNROLL for (int n = 0; n < 4; n++) {
            fragment_b<D>(kb, kt, n * 16, d);
            mma(s[2 * n], qa, kb[0], kb[1]);
            mma(s[2 * n + 1], qa, kb[2], kb[3]);
        }
    }
    UNROLL for (int i = 0; i < 4; i++) {
        int row = row0 + warp() * 16 + lane() / 4 + i / 2 * 8;
        if (row >= a.rows) continue;
        float *out = a.out + (static_cast<int64_t>(blockIdx.z) * a.rows + row) * a.stride;
        UNROLL for (int n = 0; n < 8; n++) {
            int64_t key = key0 + n * 8 + lane() % 4 * 2 + i % 2;
            if (key < a.keys) out[key] = a.causal && key > a.first + row ? -INF : s[n][i];
        }
    }
}

KERNEL(score_rows_64, ScoreArgs, 128, 4) { score_rows<64>(a); }
KERNEL(score_rows_128, ScoreArgs, 128, 4) { score_rows<128>(a); }
KERNEL(score_rows_256, ScoreArgs, 128, 2) { score_rows<256>(a); }

// row_stats: of every row of scores its maximum, and share over the sum of powers of two relative to it. One block of 256 a row.
struct SumArgs {
    const float *scores;  // [heads][rows][stride]
    float *stats;         // [heads][rows][2]
    float *keys_out;      // [heads][out_stride]: sums by key
    float *slash_out;     // [heads][out_stride]: sums by distance, or null
    int64_t stride, keys, out_stride;
    int32_t rows, heads;
    float c, share;
};

KERNEL(row_stats, SumArgs, 256, 1) {
    float *scratch = reinterpret_cast<float *>(shared_memory());
    const float *s = a.scores + block_id() * a.stride;
    float top = -INF, sum = 0;
    for (int64_t i = thread(); i < a.keys; i += threads()) top = fmaxf(top, s[i]);
    top = block_max(top, scratch);
    for (int64_t i = thread(); i < a.keys; i += threads()) sum += exp2_fast((s[i] - top) * a.c);
    sum = block_sum(sum, scratch);
    if (thread() == 0) a.stats[2 * block_id()] = top, a.stats[2 * block_id() + 1] = a.share / sum;
}

// line_sums adds probabilities over rows: by key, and by distance, where place x is that of keys-1-x positions and the last row
// stands at the last key. A grid of (ceil(keys/256), heads).
KERNEL(line_sums, SumArgs, 256, 1) {
    int64_t x = static_cast<int64_t>(blockIdx.x) * threads() + thread(), head = blockIdx.y;
    if (x >= a.keys) return;
    const float *s = a.scores + head * a.rows * a.stride, *stats = a.stats + head * a.rows * 2;
    float sum = 0;
    for (int r = 0; r < a.rows; r++) sum += exp2_fast((s[r * a.stride + x] - stats[2 * r]) * a.c) * stats[2 * r + 1];
    a.keys_out[head * a.out_stride + x] = sum;
    if (!a.slash_out) return;
    sum = 0;
    for (int r = 0; r < a.rows; r++) {
        int64_t key = x - (a.rows - 1 - r);
        if (key >= 0) sum += exp2_fast((s[r * a.stride + key] - stats[2 * r]) * a.c) * stats[2 * r + 1];
    }
    a.slash_out[head * a.out_stride + x] = sum;
}

// sort_segments: the places of a segment by descending score, equal ones in order: a bitonic sort of (inverted bits, place), in shared
// memory or, for long segments, in global scratch. A grid of (segments, heads), one block a segment; `width` is the power of two from
// `segment` on.
struct SortArgs {
    const float *rank;  // [heads][rank_stride]
    uint16_t *perm;     // [heads][perm_stride]
    uint64_t *scratch;  // [heads][segments][width], or null
    int64_t rank_stride, perm_stride;
    int32_t segment, width;
};

KERNEL(sort_segments, SortArgs, 256, 1) {
    int64_t head = blockIdx.y, base = static_cast<int64_t>(blockIdx.x) * a.segment;
    uint64_t *x = a.scratch ? a.scratch + (head * gridDim.x + blockIdx.x) * a.width : reinterpret_cast<uint64_t *>(shared_memory());
    for (int i = thread(); i < a.width; i += threads())
        x[i] = i < a.segment ? static_cast<uint64_t>(~bits_of(a.rank[head * a.rank_stride + base + i])) << 32 | i : ~0ull;
    for (int size = 2; size <= a.width; size *= 2)
        for (int apart = size / 2; apart; apart /= 2) {
            sync_block();
            for (int n = thread(); n < a.width / 2; n += threads()) {
                int i = n / apart * 2 * apart + n % apart, j = i + apart;
                uint64_t lo = x[i], hi = x[j];
                if ((lo > hi) == !(i & size)) x[i] = hi, x[j] = lo;
            }
        }
    sync_block();
    for (int i = thread(); i < a.segment; i += threads()) a.perm[head * a.perm_stride + base + i] = static_cast<uint16_t>(x[i]);
}

// pool_blocks: the sum of a block's rows over `block`, added in order so that means are the same on every device. A grid of (blocks, heads),
// 128 threads, each some columns.
struct PoolArgs {
    float *out;            // [heads][out_head_stride], of it rows of head_dim from block0 on
    const void *x;         // row 0 stands at position lo
    const uint16_t *perm;  // or null
    int64_t x_stride, x_head_stride, out_head_stride, out_stride, perm_stride, sorted, lo, hi, block0;
    int32_t group, block, segment, head_dim, dtype;
};

KERNEL(pool_blocks, PoolArgs, 128, 1) {
    int64_t head = blockIdx.y, base = (a.block0 + blockIdx.x) * a.block, end = min(base + a.block, a.hi), segment = base / a.segment * a.segment;
    const uint16_t *perm = a.perm && base < a.sorted ? a.perm + head * a.perm_stride : nullptr;
    int64_t from = head / a.group * a.x_head_stride;
    float inv = 1 / static_cast<float>(a.block);
    for (int d = thread(); d < a.head_dim; d += threads()) {
        float sum = 0;
        UNROLL_4 for (int64_t place = max(base, a.lo); place < end; place++) {
            int64_t pos = perm ? segment + perm[place] : place;
            sum += element(a.x, a.dtype, from + (pos - a.lo) * a.x_stride + d);
        }
        a.out[head * a.out_head_stride + blockIdx.x * a.out_stride + d] = inv * sum;
    }
}
