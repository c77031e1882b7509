// Choice of columns and diagonals (MInference) and of blocks by a pattern of each head's own (FlexPrefill, arXiv 2502.20766).
#include "pick.cuh"

#define LARGEST 3.402823466e+38f

DEVICE void set_bit(uint32_t *bits, int64_t i) { atomic_or(bits + i / 32, 1u << (i % 32)); }
DEVICE bool has_bit(const uint32_t *bits, int64_t i) { return bits[i / 32] >> (i % 32) & 1; }

// has_nan reports whether one of n masses is NaN. All threads of a block call it.
DEVICE bool has_nan(Pick &p, const float *mass, int64_t n) {
    float sum = 0;
    for (int64_t i = thread(); i < n; i += threads()) sum += mass[i];
    sum = block_sum(sum, p.floats);
    return sum != sum;
}

// select_lines: a head's columns and diagonals, and what its rows need of them. One block of 1024 a head. Shared memory: Pick.
struct LineArgs {
    const float *rank, *slash;     // [heads][rank_stride]
    uint64_t *columns, *diagonals;  // [heads][line_words]
    uint32_t *places;              // [heads][2·line_words]: scratch, bit x: the diagonal of distance keys-1-x
    uint32_t *offsets;             // [heads][2·words]: bit o: blocks o apart hold pairs of a chosen diagonal
    uint32_t *per_block;           // [heads][blocks]: columns in a key block
    uint64_t *keep;
    uint32_t *kept;
    int64_t rank_stride, line_words, keep_head_stride, kept_head_stride, keys;
    int32_t words, blocks, block, first_block, column_count, diagonal_count, sink, recent;
};

KERNEL(select_lines, LineArgs, 1024, 1) {
    Pick &p = *reinterpret_cast<Pick *>(shared_memory());
    int64_t head = block_id(), n = a.keys;
    const float *rank = a.rank + head * a.rank_stride, *slash = a.slash + head * a.rank_stride;
    uint32_t *columns = reinterpret_cast<uint32_t *>(a.columns + head * a.line_words);
    uint32_t *diagonals = reinterpret_cast<uint32_t *>(a.diagonals + head * a.line_words);
    uint32_t *places = a.places + head * 2 * a.line_words, *offsets = a.offsets + head * 2 * a.words, *per = a.per_block + head * a.blocks;
    for (int64_t i = thread(); i < 2 * a.line_words; i += threads()) columns[i] = diagonals[i] = places[i] = 0;
    for (int i = thread(); i < 2 * a.words; i += threads()) offsets[i] = 0;
    int sink = a.sink, recent = a.recent;
    // What is NaN keeps all, so that it shows in the output.
    double column_count = has_nan(p, rank, n) ? INF : a.column_count, diagonal_count = has_nan(p, slash, n) ? INF : a.diagonal_count;
    pick_heaviest(p, [=](int64_t i) { return i < sink ? LARGEST : rank[i]; }, n, column_count, true, columns);
    pick_heaviest(p, [=](int64_t i) { return n - 1 - i < recent ? LARGEST : slash[i]; }, n, diagonal_count, true, places);
    sync_block();
    for (int64_t d = thread(); d < n; d += threads())
        if (has_bit(places, n - 1 - d)) {
            set_bit(diagonals, d);
            set_bit(offsets, d / a.block);
            set_bit(offsets, min(ceil_div(d, a.block), static_cast<int64_t>(a.blocks - 1)));
        }
    for (int b = thread(); b < a.blocks; b += threads()) {
        uint32_t count = 0;
        for (int64_t i = static_cast<int64_t>(b) * a.block; i < min(static_cast<int64_t>(b + 1) * a.block, n); i++) count += has_bit(columns, i);
        per[b] = count;
    }
}

// line_rows: what a query block keeps by the head's diagonals, and how many blocks that and the columns outside it make. A grid of (query
// blocks, heads), one block of 128 each.
KERNEL(line_rows, LineArgs, 128, 1) {
    float *scratch = reinterpret_cast<float *>(shared_memory());
    int64_t head = blockIdx.y;
    int row = blockIdx.x, i = a.first_block + row;
    const uint32_t *offsets = a.offsets + head * 2 * a.words, *per = a.per_block + head * a.blocks;
    uint32_t *keep = reinterpret_cast<uint32_t *>(a.keep + head * a.keep_head_stride + static_cast<int64_t>(row) * a.words);
    float count = 0, outside = 0;  // exact: there are fewer than 2^24
    for (int w = thread(); w < 2 * a.words; w += threads()) {
        uint32_t bits = 0;
        for (int b = 0; b < 32; b++) {
            int j = w * 32 + b;
            if (j > i) break;
            if (has_bit(offsets, i - j)) bits |= 1u << b;
            else outside += per[j];
        }
        keep[w] = bits;
        count += popcount(bits);
    }
    count = block_sum(count, scratch);
    outside = block_sum(outside, scratch);
    if (thread() == 0)
        a.kept[head * a.kept_head_stride + row] = static_cast<uint32_t>(count) + static_cast<uint32_t>(ceil_div(static_cast<int64_t>(outside), a.block));
}

// flex_head: a head's budgets, whether it is query-aware, and the key blocks and diagonals of blocks that it keeps. One block of 256 a
// head. Shared memory: Pick, then 4·(2·blocks + head_dim) bytes of scratch in `scratch`, global.
struct FlexArgs {
    const float *rank, *slash;  // [heads][rank_stride]
    const uint16_t *q;          // the last queries
    const float *q_mean;
    float *k_mean;
    float *scratch;             // [heads][3·blocks + head_dim]
    uint32_t *aware;            // [heads]
    uint32_t *vertical, *diagonal;  // [heads][2·words]: key blocks; bit x: the block diagonal blocks-1-x
    float *weights;             // [heads of the grid][rows][weight_stride]: of pairs
    uint32_t *pairs;            // [heads of the grid][rows·weight_stride/32]
    uint64_t *keep;
    uint32_t *kept;
    int64_t rank_stride, q_stride, q_head_stride, k_head_stride, keep_head_stride, kept_head_stride, keys, weight_stride;
    double gamma, tau;
    int32_t head0, words, blocks, block, first_block, rows, head_dim, last, least;
    float scale;
};

DEVICE double flex_sum(Pick &p, double x) {
    sync_block();
    p.mass[thread() % 256] = x;
    sync_block();
    double sum = 0;
    for (int i = 0; i < 256; i++) sum += p.mass[i];
    sync_block();
    return sum;
}

// budget is how many blocks the keys or distances that reach gamma are worth.
DEVICE int flex_budget(Pick &p, const FlexArgs &a, const float *mass, uint32_t *bits) {
    int64_t words = ceil_div(a.keys, 32);
    for (int64_t i = thread(); i < words; i += threads()) bits[i] = 0;
    pick_heaviest(p, [=](int64_t i) { return mass[i]; }, a.keys, a.gamma, false, bits);
    sync_block();
    double count = 0;
    for (int64_t i = thread(); i < words; i += threads()) count += popcount(bits[i]);
    count = flex_sum(p, count);
    return min(max(static_cast<int>(count) / 128 + 1, a.least), a.blocks);
}

KERNEL(flex_head, FlexArgs, 256, 1) {
    Pick &p = *reinterpret_cast<Pick *>(shared_memory());
    int64_t head = block_id();
    int n = a.blocks;
    const float *rank = a.rank + head * a.rank_stride, *slash = a.slash + head * a.rank_stride;
    float *k_mean = a.k_mean + head * a.k_head_stride;
    float *vertical = a.scratch + head * (3 * static_cast<int64_t>(n) + a.head_dim), *diagonal = vertical + n, *guess = diagonal + n, *mean = guess + n;
    uint32_t *v = a.vertical + head * 2 * a.words, *d = a.diagonal + head * 2 * a.words;
    int64_t size = a.keys - static_cast<int64_t>(n - 1) * a.block;
    for (int i = thread(); i < a.head_dim; i += threads()) {
        if (size < a.block) k_mean[static_cast<int64_t>(n - 1) * a.head_dim + i] *= static_cast<float>(a.block) / static_cast<float>(size);
        float sum = 0;
        for (int r = 0; r < a.last; r++) sum += widen_bf16(a.q[r * a.q_stride + head * a.head_dim + i]);
        mean[i] = sum * (1 / static_cast<float>(a.last));
    }
    for (int b = thread(); b < n; b += threads()) {
        double x = 0, y = 0;
        for (int64_t i = static_cast<int64_t>(b) * a.block; i < min(static_cast<int64_t>(b + 1) * a.block, a.keys); i++) x += rank[i], y += slash[i];
        vertical[b] = static_cast<float>(x), diagonal[b] = static_cast<float>(y);
    }
    sync_block();
    // The bits of budgets go where those of pairs will be: there is room for a bit per key.
    uint32_t *bits = a.pairs + head * ceil_div(a.keys, 32);
    bool all = a.gamma >= 1 || has_nan(p, vertical, n);
    int columns = all ? n : flex_budget(p, a, rank, bits), diagonals = all ? n : flex_budget(p, a, slash, bits);

    // The root of the Jensen-Shannon divergence of the two views of key blocks.
    float top = -INF;
    for (int b = thread(); b < n; b += threads()) {
        float s = 0;
        for (int i = 0; i < a.head_dim; i++) s += mean[i] * k_mean[static_cast<int64_t>(b) * a.head_dim + i];
        guess[b] = s * a.scale;
        top = fmaxf(top, guess[b]);
    }
    top = block_max(top, p.floats);
    double sum = 0;
    for (int b = thread(); b < n; b += threads()) guess[b] = expf(guess[b] - top), sum += guess[b];
    sum = flex_sum(p, sum);
    double divergence = 0;
    for (int b = thread(); b < n; b += threads()) {
        double x = static_cast<float>(guess[b] / sum), y = vertical[b], m = (x + y) / 2;
        if (x > 0) divergence += 0.5 * x * log(x / m);
        if (y > 0) divergence += 0.5 * y * log(y / m);
    }
    divergence = sqrt(fmax(flex_sum(p, divergence), 0.0));
    bool aware = !all && divergence < a.tau;
    if (aware) columns = diagonals = min(a.least, n);
    if (thread() == 0) a.aware[head] = aware, vertical[0] = LARGEST, diagonal[n - 1] = LARGEST;
    for (int i = thread(); i < 2 * a.words; i += threads()) v[i] = d[i] = 0;
    sync_block();
    pick_heaviest(p, [=](int64_t i) { return diagonal[i]; }, n, diagonals, true, d);
    pick_heaviest(p, [=](int64_t i) { return vertical[i]; }, n, columns, true, v);
}

// flex_softmax: rows of pair scores to their causal softmax, zero beyond and where it is NaN. A grid of (rows, heads), one block of 256 each.
KERNEL(flex_softmax, FlexArgs, 256, 2) {
    Pick &p = *reinterpret_cast<Pick *>(shared_memory());
    int head = a.head0 + blockIdx.y, n = a.first_block + blockIdx.x + 1;
    if (!a.aware[head]) return;
    float *w = a.weights + (static_cast<int64_t>(blockIdx.y) * a.rows + blockIdx.x) * a.weight_stride, top = -INF;
    for (int j = thread(); j < n; j += threads()) top = fmaxf(top, w[j]);
    top = block_max(top, p.floats);
    double sum = 0;
    for (int j = thread(); j < n; j += threads()) w[j] = expf(w[j] - top), sum += w[j];
    sum = flex_sum(p, sum);
    for (int64_t j = thread(); j < a.weight_stride; j += threads()) w[j] = j < n && sum == sum ? static_cast<float>(w[j] / sum) : 0;
}

// flex_pairs: the heaviest pairs of blocks of a head; the one that would pass gamma is left out, as in the published code. One block of
// 1024 a head.
KERNEL(flex_pairs, FlexArgs, 1024, 1) {
    Pick &p = *reinterpret_cast<Pick *>(shared_memory());
    int head = a.head0 + static_cast<int>(block_id());
    if (!a.aware[head]) return;
    int64_t n = a.rows * a.weight_stride;
    const float *w = a.weights + block_id() * n;
    uint32_t *bits = a.pairs + block_id() * (n / 32);
    for (int64_t i = thread(); i < n / 32; i += threads()) bits[i] = 0;
    pick_heaviest(p, [=](int64_t i) { return w[i]; }, n, a.gamma * a.rows, false, bits);
    sync_block();
    // The last of the lightest: every thread's, then the block's.
    int64_t lightest = -1;
    for (int64_t i = thread(); i < n; i += threads())
        if (has_bit(bits, i) && (lightest < 0 || w[i] <= w[lightest])) lightest = i;
    int64_t *found = reinterpret_cast<int64_t *>(&p + 1);  // [1024]
    sync_block();
    found[thread()] = lightest;
    sync_block();
    if (thread() != 0) return;
    for (int t = 0; t < threads(); t++) {
        int64_t i = found[t];
        if (i >= 0 && (lightest < 0 || w[i] < w[lightest] || (w[i] == w[lightest] && i > lightest))) lightest = i;
    }
    if (lightest >= 0) bits[lightest / 32] &= ~(1u << (lightest % 32));
}

// flex_rows: what a query block keeps. A grid of (rows, heads of the grid), one block of 128 each.
KERNEL(flex_rows, FlexArgs, 128, 1) {
    float *scratch = reinterpret_cast<float *>(shared_memory());
    int64_t head = a.head0 + blockIdx.y;
    int row = blockIdx.x, i = a.first_block + row;
    const uint32_t *v = a.vertical + head * 2 * a.words, *d = a.diagonal + head * 2 * a.words;
    const uint32_t *pairs = a.aware[head] ? a.pairs + (blockIdx.y * static_cast<int64_t>(a.rows) + row) * (a.weight_stride / 32) : nullptr;
    uint32_t *keep = reinterpret_cast<uint32_t *>(a.keep + head * a.keep_head_stride + static_cast<int64_t>(row) * a.words);
    float count = 0;
    for (int w = thread(); w < 2 * a.words; w += threads()) {
        uint32_t bits = 0;
        for (int b = 0; b < 32; b++) {
            int j = w * 32 + b;
            if (j > i) break;
            if (has_bit(v, j) || has_bit(d, j + a.blocks - 1 - i) || (pairs && has_bit(pairs, j))) bits |= 1u << b;
        }
        keep[w] = bits;
        count += popcount(bits);
    }
    count = block_sum(count, scratch);
    if (thread() == 0) a.kept[head * a.kept_head_stride + row] = static_cast<uint32_t>(count);
}
