// Block-sparse attention (arXiv 2510.21270): attend.cuh over the blocks that a plan keeps, K and V gathered through its order.
#include "attend.cuh"

// A grid of (tiles · group, kv heads); a query block is one row tile or more.
KERNEL(attend_blocks_64, AttendArgs, 128, 2) { attend<64, 128, 64, true>(a); }
KERNEL(attend_blocks_128, AttendArgs, 128, 2) { attend<128, 128, 64, true>(a); }
KERNEL(attend_blocks_256, AttendArgs, 128, 1) { attend<256, 64, 32, true>(a); }

// list_columns writes the bits of every head as a list of keys, ascending: a block of 1024 a head.
struct ColumnArgs {
    const uint64_t *bits;  // [heads][words]
    uint32_t *list;        // [heads][stride]
    uint32_t *count;       // [heads]
    int64_t words, stride, keys;
};

KERNEL(list_columns, ColumnArgs, 1024, 1) {
    uint32_t *scratch = reinterpret_cast<uint32_t *>(shared_memory());  // a count per warp
    int64_t head = block_id(), words = ceil_div(a.keys, 64);
    uint32_t before = 0;
    for (int64_t base = 0; base < words; base += threads()) {
        int64_t w = base + thread();
        uint64_t bits = w < words ? a.bits[head * a.words + w] : 0;
        if (w == words - 1 && a.keys % 64) bits &= ~0ull >> (64 - a.keys % 64);
        uint32_t n = static_cast<uint32_t>(popcount64(bits)), sum = n;  // of this lane and those before
        for (int d = 1; d < 32; d *= 2) {
            uint32_t x = shuffle(sum, (lane() - d) & 31);
            if (lane() >= d) sum += x;
        }
        sync_block();
        if (lane() == 31) scratch[warp()] = sum;
        sync_block();
        uint32_t at = before + sum - n;
        for (int i = 0; i < threads() / 32; i++) {
            if (i < warp()) at += scratch[i];
            before += scratch[i];
        }
        for (; bits; bits &= bits - 1) a.list[head * a.stride + at++] = static_cast<uint32_t>(w * 64 + lowest_bit64(bits));
    }
    if (thread() == 0) a.count[head] = before;
}
