// Choice of key blocks by pooled scores, and by scores along antidiagonals.
#include "mma.cuh"
#include "pick.cuh"

// score_blocks: means of query blocks times means of key blocks, times scale, in f32: tiles of 64 by 64, a thread 4 by 4. A grid of (key
// block tiles, query block tiles, heads). Shared memory: [2][16][68] floats.
struct BlockScoreArgs {
    float *out;             // [heads of the grid][rows][stride]
    const float *q, *k;     // rows of head_dim
    const uint32_t *flags;  // [heads] or null: heads whose flag is 0 are left out
    int64_t q_head_stride, k_head_stride, stride;
    int32_t head0, row0, rows, blocks, head_dim, first_block;  // of the blocks after a row's own none is needed
    float scale;
};

KERNEL(score_blocks, BlockScoreArgs, 256, 2) {
    float *qt = reinterpret_cast<float *>(shared_memory()), *kt = qt + 16 * 68;
    int head = a.head0 + blockIdx.z, row0 = blockIdx.y * 64, col0 = blockIdx.x * 64;
    if ((a.flags && !a.flags[head]) || col0 > a.first_block + a.row0 + row0 + 63) return;
    const float *q = a.q + head * a.q_head_stride + static_cast<int64_t>(a.row0) * a.head_dim, *k = a.k + head * a.k_head_stride;
    float sum[4][4] = {};
    int ti = thread() / 16 * 4, tj = thread() % 16 * 4;
    for (int d0 = 0; d0 < a.head_dim; d0 += 16) {
        sync_block();
        UNROLL for (int n = 0; n < 4; n++) {
            int r = n * 16 + thread() / 16, d = d0 + thread() % 16;
            qt[thread() % 16 * 68 + r] = row0 + r < a.rows && d < a.head_dim ? q[static_cast<int64_t>(row0 + r) * a.head_dim + d] : 0;
            kt[thread() % 16 * 68 + r] = col0 + r < a.blocks && d < a.head_dim ? k[static_cast<int64_t>(col0 + r) * a.head_dim + d] : 0;
        }
        sync_block();
        UNROLL_4 for (int d = 0; d < 16; d++)
            UNROLL for (int i = 0; i < 4; i++)
                UNROLL for (int j = 0; j < 4; j++) sum[i][j] += qt[d * 68 + ti + i] * kt[d * 68 + tj + j];
    }
    UNROLL for (int i = 0; i < 4; i++)
        UNROLL for (int j = 0; j < 4; j++)
            if (row0 + ti + i < a.rows && col0 + tj + j < a.blocks)
                a.out[(static_cast<int64_t>(blockIdx.z) * a.rows + row0 + ti + i) * a.stride + col0 + tj + j] = sum[i][j] * a.scale;
}

// choose_blocks: which key blocks a query block keeps, from its scores or its weights; see kernels.Selection. A grid of (rows, heads), one
// block of 256 a row. Shared memory: Pick.
struct ChooseArgs {
    float *weights;        // [heads of the grid][rows][stride], overwritten
    const uint16_t *perm;  // or null
    uint64_t *keep;        // of head 0, row 0
    uint32_t *kept;
    int64_t stride, perm_stride, keep_head_stride, kept_head_stride;
    double tau, density;
    int32_t head0, row0, rows, first_block, block, segment, blocks, words, sorted, scores, own, keep_first, counted, surplus, last;
};

DEVICE double block_sum_double(Pick &p, double x) {
    sync_block();
    p.mass[thread() % 256] = x;
    sync_block();
    double sum = 0;
    for (int i = 0; i < 256; i++) sum += p.mass[i];
    sync_block();
    return sum;
}

DEVICE void set_bit(uint32_t *bits, int i) { atomic_or(bits + i / 32, 1u << (i % 32)); }

KERNEL(choose_blocks, ChooseArgs, 256, 2) {
    Pick &p = *reinterpret_cast<Pick *>(shared_memory());
    int row = a.row0 + blockIdx.x, head = a.head0 + blockIdx.y, i = a.first_block + row, per = a.segment / a.block, own = i / per * per;
    int n = a.own ? i + 1 : own;
    bool all = i >= a.blocks - a.last;
    float *w = a.weights + (static_cast<int64_t>(blockIdx.y) * a.rows + blockIdx.x) * a.stride;
    uint64_t *keep = a.keep + head * a.keep_head_stride + static_cast<int64_t>(row) * a.words;
    uint32_t *bits = reinterpret_cast<uint32_t *>(keep);
    for (int j = thread(); j < a.words; j += threads()) keep[j] = 0;

    if (thread() == 0) p.found = 0;  // the block of key 0
    sync_block();
    if (a.perm && a.sorted > 0)
        for (int j = thread(); j < a.segment; j += threads())
            if (a.perm[head * a.perm_stride + j] == 0) p.found = static_cast<uint32_t>(j / a.block);
    sync_block();
    int first = static_cast<int>(p.found);

    if (a.scores) {
        float top = -INF;
        for (int j = thread(); j < n; j += threads()) top = fmaxf(top, w[j]);
        top = block_max(top, p.floats);
        for (int j = thread(); j < n; j += threads()) w[j] = expf(w[j] - top);
    }
    double sum = 0;
    for (int j = thread(); j < n; j += threads()) sum += w[j];
    sum = block_sum_double(p, sum);

    double mass;
    bool by_count = a.density > 0 && !all;
    if (by_count) {
        for (int j = own + thread(); j < n; j += threads()) w[j] = INF;  // what is kept anyway comes before all others
        if (thread() == 0 && a.keep_first && first < n) w[first] = INF;
        mass = rint(a.density * (i + 1)) - (a.own ? 0 : i - own + 1);
    } else {
        mass = a.tau * sum;
        if (mass == 0) mass = 2.2250738585072014e-308;  // a tau of 0 keeps the heaviest
        if (a.counted) {
            bool drop = a.keep_first && first < own && i >= a.surplus;
            if (drop) mass -= w[first];
            for (int j = own; j < n; j++) mass -= w[j];
            sync_block();
            if (drop && thread() == 0) w[first] = 0;
            for (int j = own + thread(); j < n; j += threads()) w[j] = 0;
        }
        if (all || a.tau >= 1 || !(sum < static_cast<double>(INF))) mass = static_cast<double>(INF);
    }
    pick_heaviest(p, [w](int64_t j) { return w[j]; }, n, mass, by_count, bits);
    sync_block();
    if (a.density <= 0 && i < a.surplus && thread() == 0) {
        int best = -1;
        for (int j = 0; j < n; j++)
            if (!(keep[j / 64] >> (j % 64) & 1) && (best < 0 || w[j] > w[best])) best = j;
        if (best >= 0) set_bit(bits, best);
    }
    sync_block();
    if (thread() == 0 && a.keep_first) set_bit(bits, first);
    for (int j = own + thread(); j < own + per && j < a.blocks; j += threads()) set_bit(bits, j);
    sync_block();
    float count = 0;  // exact: there are fewer than 2^24
    for (int j = thread(); j <= i / 64; j += threads()) count += popcount64(j < i / 64 ? keep[j] : keep[j] & (~0ull >> (63 - i % 64)));
    count = block_sum(count, p.floats);
    if (thread() == 0) a.kept[head * a.kept_head_stride + row] = static_cast<uint32_t>(count);
}

// strided_scores: `stride` queries side by side, the last first, are one row of stride·head_dim features; as many keys, the first first,
// one strided key (arXiv 2503.16428). A block computes 64 rows by the strided keys of some key blocks and leaves, for every row and key
// block, the maximum times c and the sum of powers of two relative to it. A grid of (key blocks / span, row tiles, heads). Shared
// memory: Q and K [64][D], or scores [64][65] and results [64][span][2] in f32 after them.
struct StridedArgs {
    float *stats;            // [heads of the grid][rows][stat_stride][2]
    const uint16_t *q, *k;   // rows 16-byte aligned; row 0 of q stands at position first
    const uint16_t *perm;    // or null
    int64_t q_stride, kv_stride, kv_head_stride, perm_stride, stat_stride, first, lo, hi, sorted, keys;  // queries at [lo, hi)
    int32_t head0, group, width, block, segment, stride, row0, rows, blocks, span, own;
    float c;
};

// last_seen is the last strided key that a row sees.
DEVICE int last_seen(int row, int stride, int segment, int own) { return own ? row : row * stride / segment * segment / stride - 1; }

template <int D> DEVICE void strided_scores(const StridedArgs &a) {
    uint16_t *qt = reinterpret_cast<uint16_t *>(shared_memory()), *kt = qt + 64 * D;
    float *scores = reinterpret_cast<float *>(shared_memory()), *found = scores + (D < 128 ? 64 * 65 : 64 * D);
    int head = a.head0 + blockIdx.z, r0 = a.row0 + blockIdx.y * 64, row_end = a.row0 + a.rows, per = a.block / a.stride, block0 = blockIdx.x * a.span;
    int c0 = block0 * per, c1 = min(c0 + a.span * per, a.blocks * per);
    if (c0 > last_seen(min(r0 + 63, row_end - 1), a.stride, a.segment, a.own)) return;
    const uint16_t *perm = a.perm ? a.perm + head * a.perm_stride : nullptr;
    Rows q = {a.q + head * a.width, a.q_stride, a.width}, k = {a.k + head / a.group * a.kv_head_stride, a.kv_stride, a.width};
    for (int base = c0; base < c1; base += 64) {
        float s[8][4];
        UNROLL for (int n = 0; n < 8; n++)
            UNROLL for (int i = 0; i < 4; i++) s[n][i] = 0;
        NO_UNROLL for (int t = 0; t < a.stride; t++) {
            sync_block();
            UNROLL_2 for (int i = 0; i < 64 * D / 8 / 128; i++) {
                int n = i * 128 + thread(), r = n / (D / 8), c = n % (D / 8);
                int64_t at = static_cast<int64_t>(r0 + r + 1) * a.stride - 1 - t, place = static_cast<int64_t>(base + r) * a.stride + t;
                load_chunk(qt + tile_at<D>(r, c), q, at - a.first, c, r0 + r < row_end && at >= a.lo && at < a.hi);
                bool there = base + r < c1 && place < a.keys;
                int64_t key = there && perm && place < a.sorted ? place / a.segment * a.segment + perm[place] : place;
                load_chunk(kt + tile_at<D>(r, c), k, key, c, there);
            }
            copy_commit();
            copy_wait<0>();
            sync_block();
            UNROLL_4 for (int d = 0; d < D / 16; d++) {
                uint32_t qa[4], kb[4];
                fragment_a<D>(qa, qt, warp() * 16, d);
                UNROLL for (int n = 0; n < 4; n++) {
                    fragment_b<D>(kb, kt, n * 16, d);
                    mma(s[2 * n], qa, kb[0], kb[1]);
                    mma(s[2 * n + 1], qa, kb[2], kb[3]);
                }
            }
        }
        sync_block();
        UNROLL for (int n = 0; n < 8; n++)
            UNROLL for (int i = 0; i < 4; i++) scores[(warp() * 16 + lane() / 4 + i / 2 * 8) * 65 + n * 8 + lane() % 4 * 2 + i % 2] = s[n][i];
        sync_block();
        for (int n = thread(); n < 64 * a.span; n += threads()) {
            int r = n % 64, b = n / 64, lo = max(b * per - (base - c0), 0);
            int hi = min(min((b + 1) * per - (base - c0), min(64, c1 - base)), last_seen(r0 + r, a.stride, a.segment, a.own) - base + 1);
            float top = base > c0 ? found[2 * n] : -INF, sum = base > c0 ? found[2 * n + 1] : 0, old = top;
            for (int j = lo; j < hi; j++) top = fmaxf(top, scores[r * 65 + j] * a.c);
            float shift = top == -INF ? 0 : top;
            sum *= exp2_fast(old - shift);
            for (int j = lo; j < hi; j++) sum += exp2_fast(fmaf(scores[r * 65 + j], a.c, -shift));
            found[2 * n] = top, found[2 * n + 1] = sum;
        }
    }
    sync_block();
    for (int n = thread(); n < 64 * a.span; n += threads()) {
        int r = n / a.span, b = n % a.span;
        if (r0 + r >= row_end || block0 + b >= a.blocks) continue;
        float *to = a.stats + ((static_cast<int64_t>(blockIdx.z) * a.rows + r0 + r - a.row0) * a.stat_stride + block0 + b) * 2;
        to[0] = found[2 * (b * 64 + r)], to[1] = found[2 * (b * 64 + r) + 1];
    }
}

KERNEL(strided_scores_64, StridedArgs, 128, 4) { strided_scores<64>(a); }
KERNEL(strided_scores_128, StridedArgs, 128, 4) { strided_scores<128>(a); }
KERNEL(strided_scores_256, StridedArgs, 128, 2) { strided_scores<256>(a); }

// strided_weights: per query block and key block the sum, over the block's strided rows, of their softmax. A grid of (query blocks,
// heads), one block of 256 each. Shared memory: 8 bytes per strided row of a block.
struct StridedWeightArgs {
    const float *stats;  // [heads of the grid][rows][stat_stride][2]
    float *weights;      // [heads of the grid][query blocks][stride]
    int64_t stat_stride, stride;
    int32_t row0, rows, block, segment, stride_of, first_block, blocks, own;
};

KERNEL(strided_weights, StridedWeightArgs, 256, 2) {
    float *top = reinterpret_cast<float *>(shared_memory());
    int per = a.block / a.stride_of, block = a.first_block + blockIdx.x;
    int lo = max(block * per, a.row0), n = min((block + 1) * per, a.row0 + a.rows) - lo;
    float *inv = top + per;
    const float *stats = a.stats + (static_cast<int64_t>(blockIdx.y) * a.rows + lo - a.row0) * a.stat_stride * 2;
    for (int r = warp(); r < n; r += threads() / 32) {
        const float *s = stats + r * a.stat_stride * 2;
        int end = last_seen(lo + r, a.stride_of, a.segment, a.own) / per + 1;
        if (last_seen(lo + r, a.stride_of, a.segment, a.own) < 0) end = 0;
        float m = -INF, sum = 0;
        for (int j = lane(); j < end; j += 32) m = fmaxf(m, s[2 * j]);
        m = warp_max(m);
        float shift = m == -INF ? 0 : m;
        for (int j = lane(); j < end; j += 32)
            if (s[2 * j + 1] != 0) sum += exp2_fast(s[2 * j] == -INF ? 0 : s[2 * j] - shift) * s[2 * j + 1];
        sum = warp_sum(sum);
        if (lane() == 0) top[r] = shift, inv[r] = sum == 0 ? 0 : 1 / sum;
    }
    sync_block();
    float *w = a.weights + (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * a.stride;
    for (int j = thread(); j < a.blocks; j += threads()) {
        float sum = 0;
        for (int r = 0; r < n; r++) {
            if (j * per > last_seen(lo + r, a.stride_of, a.segment, a.own)) continue;
            const float *s = stats + (r * a.stat_stride + j) * 2;
            if (s[1] != 0) sum += exp2_fast(s[0] == -INF ? 0 : s[0] - top[r]) * s[1] * inv[r];
        }
        w[j] = sum;
    }
}
