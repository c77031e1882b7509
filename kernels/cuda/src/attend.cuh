// Prefill attention, dense and block-sparse: one block of four warps computes BM query rows of one head, key tile by key tile.
//
//   shared memory: Q [BM][D], K and V [2][BN][D] each, Progress
//
// While a tile is multiplied the next one is copied (cp.async) and the keys of the one after are looked up, so that neither the
// copies nor the reads of the permutation are waited for. There is one barrier a tile. A warp holds 16·MT rows: their outputs
// [16·MT][D] and scores [16·MT][BN] live in its registers, and queries are read from shared memory for every tile.
//
// Keys come in up to three stretches: the kept blocks of earlier segments, through the permutation and without a mask; single
// columns; then the query's own segment in its own order, masked by position. Dense attention is the last stretch alone, its segment
// beginning at key 0.
#pragma once

#include "softmax.cuh"

struct AttendArgs {
    uint16_t *out;
    const uint16_t *q, *k, *v;   // rows 16-byte aligned
    const int32_t *stop;         // not 0: an Interrupt, end early
    const int32_t *odd;          // or null; not 0: V holds NaN or infinity, which attend_tma.cuh leaves to the kernels of this file
    const uint16_t *perm;        // [heads][perm_stride], or null: keys stand in their own order
    const uint64_t *keep;        // [heads][query blocks][words]
    const uint32_t *columns;     // [heads][column_stride]: keys that every later query sees, ascending; or null
    const uint32_t *column_count;  // [heads]
    int64_t out_stride, q_stride, kv_stride, kv_head_stride;
    int64_t first;               // position of row 0
    int64_t lo, hi;              // rows wanted
    int64_t perm_stride, keep_head_stride, column_stride;
    int32_t words, group, head_dim, width, block, segment;  // width: of rows of q, k and v; head_dim filled up to a multiple of 8
    int32_t tiles;               // of rows
    float c;                     // 1/sqrt(head_dim) · log2 e
};

// Tile is some keys: n of BN are there. Natural ones are keys base, base+1, ... and need the causal mask.
struct Tile {
    int n;
    bool natural, holes;  // holes: rows[] says which of them are there
    int base;
};

// Walk lists the tiles of a row tile. All threads walk alike; with its number r a thread also looks up the key at place r of a tile, -1 for none.
template <int BN> struct Walk {
    const uint64_t *keep;
    const uint16_t *perm;
    const uint32_t *columns;
    uint64_t bits;
    int word, block, segment, now, offset, own_block, own_start, end, next_key, column, column_count;

    METHOD int next_block() {
        while (!bits) {
            if (++word * 64 >= own_block) return -1;
            bits = keep[word];
        }
        int j = word * 64 + lowest_bit64(bits);
        bits &= bits - 1;
        return j < own_block ? j : -1;
    }

    METHOD int key_at(int place) { return perm ? place / segment * segment + perm[place] : place; }

    METHOD bool kept(int j) { return keep[j / 64] >> (j % 64) & 1; }

    template <bool SPARSE> METHOD Tile next(int r, int &key) {
        key = -1;
        if (SPARSE) {
            int n = 0;
            if (block >= BN) {
                if (now < 0) now = next_block(), offset = 0;
                if (now >= 0) {
                    n = min(BN, block - offset);
                    if (r < n) key = key_at(now * block + offset + r);
                    offset += n;
                    if (offset == block) now = -1;
                }
            } else {
                for (int j; n + block <= BN && (j = next_block()) >= 0; n += block)
                    if (r >= n && r < n + block) key = key_at(j * block + r - n);
            }
            if (n > 0) return {n, false, n < BN, 0};
            if (column < column_count && columns[column] < static_cast<uint32_t>(own_start)) {
                if (r < BN && column + r < column_count) {
                    int at = static_cast<int>(columns[column + r]);
                    if (at < own_start && !kept(at / block)) key = at;
                }
                column += BN;
                return {BN, false, true, 0};
            }
        }
        Tile t = {min(BN, end - next_key), true, false, next_key};
        if (t.n <= 0) return {0, true, false, 0};
        if (r < t.n) key = next_key + r;
        next_key += BN;
        return t;
    }
};

// Progress is what all threads know of the walk, kept out of their registers: the walk itself, twice, so that it is written where
// nobody reads; and of the last three tiles what they are and the key at each place.
template <int BN> struct Progress {
    Walk<BN> walk[2];
    Tile tiles[3];
    int rows[3][BN];
    volatile int lo, hi;  // positions of the rows
};

static_assert(sizeof(Progress<64>) <= 1280, "progressBytes in ../attend.go");

// load_keys copies the rows of K or V that a tile lists.
template <int D, int BN, bool SPARSE> DEVICE void load_keys(uint16_t *to, const Rows &m, const Tile &t, const int *rows) {
    UNROLL_2 for (int i = 0; i < BN * D / 8 / 128; i++) {
        int n = i * 128 + thread(), r = n / (D / 8), c = n % (D / 8);
        int key = SPARSE ? rows[r] : r < t.n ? t.base + r : -1;
        load_chunk(to + tile_at<D>(r, c), m, key, c, key >= 0);
    }
}

DEVICE bool is_finite_bf16(uint32_t h) { return (h & 0x7f80) != 0x7f80; }

// guard_values serves tiles under a mask: a probability of 0 times a value that is NaN or infinite would spoil rows that may not see
// it. Such values go straight to the rows that do see them, and count as zero in the product.
template <int D, int BN, int MT> DEVICE void guard_values(float (&o)[MT][D / 8][4], uint16_t *v, int base, int n_keys, int pos) {
    int odd = 0;
    for (int i = thread(); i < BN * D; i += threads()) odd |= !is_finite_bf16(v[i]);
    if (!sync_block_or(odd)) return;
    for (int key = 0; key < n_keys; key++)
        UNROLL for (int n = 0; n < D / 8; n++)
            UNROLL for (int i = 0; i < 2; i++) {
                uint32_t h = v[tile_at<D>(key, n) + lane() % 4 * 2 + i];
                if (is_finite_bf16(h)) continue;
                UNROLL for (int m = 0; m < MT; m++)
                    UNROLL for (int half = 0; half < 2; half++)
                        if (base + key <= pos + m * 16 + half * 8) o[m][n][2 * half + i] += widen_bf16(static_cast<uint16_t>(h));
            }
    sync_block();
    for (int i = thread(); i < BN * D; i += threads())
        if (!is_finite_bf16(v[i])) v[i] = 0;
    sync_block();
}

// interrupted tells whether the block ends early. Its threads must agree, whenever an Interrupt comes; and one reads the host's memory for all.
DEVICE bool interrupted(const AttendArgs &a) { return sync_block_or(thread() == 0 && *static_cast<const volatile int32_t *>(a.stop)); }

// Part is the row tile of a block: its heads, and positions lo to hi of its rows.
struct Part {
    int kv_head, head, lo, hi;
};

// begin finds the row tile of this block and where its walk over the keys starts. Blocks that run together should share keys: the heads
// of a kv head lie next to each other, and the longest rows come first.
template <int BM, int BN, bool SPARSE> DEVICE Part begin(const AttendArgs &a, Walk<BN> &walk) {
    int kv_head = blockIdx.y, head = kv_head * a.group + blockIdx.x % a.group, tile = a.tiles - 1 - static_cast<int>(blockIdx.x) / a.group;
    int first = static_cast<int>(a.first), from = first + static_cast<int>(a.lo), to = first + static_cast<int>(a.hi);  // positions
    int lo, hi;
    walk.next_key = 0;
    if (SPARSE) {
        int per = static_cast<int>(ceil_div(a.block, BM));
        int block = from / a.block + tile / per;
        lo = max(block * a.block + tile % per * BM, from);
        hi = min(min(block * a.block + (tile % per + 1) * BM, (block + 1) * a.block), to);
        walk.keep = a.keep + head * a.keep_head_stride + static_cast<int64_t>(block - first / a.block) * a.words;
        walk.perm = a.perm ? a.perm + head * a.perm_stride : nullptr;
        walk.columns = a.columns ? a.columns + head * a.column_stride : nullptr;
        walk.column = 0, walk.column_count = a.columns ? static_cast<int>(a.column_count[head]) : 0;
        walk.block = a.block, walk.segment = a.segment;
        walk.now = -1, walk.offset = 0, walk.word = 0;
        walk.own_block = block / (a.segment / a.block) * (a.segment / a.block);
        walk.own_start = walk.own_block * a.block;
        walk.bits = walk.own_block > 0 ? walk.keep[0] : 0;
        walk.next_key = walk.own_start;
    } else {
        lo = from + tile * BM;
        hi = min(lo + BM, to);
    }
    walk.end = hi;
    return {kv_head, head, lo, hi};
}

template <int D, int BM, int BN, bool SPARSE> DEVICE void attend(const AttendArgs &a) {
    constexpr int MT = BM / 64;
    if ((a.odd && !*a.odd) || interrupted(a)) return;
    Walk<BN> walk;
    Part part = begin<BM, BN, SPARSE>(a, walk);
    int kv_head = part.kv_head, head = part.head, lo = part.lo, hi = part.hi;
    if (lo >= hi) return;

    uint16_t *qt = reinterpret_cast<uint16_t *>(shared_memory()), *kt = qt + BM * D, *vt = kt + 2 * BN * D;
    Progress<BN> &p = *reinterpret_cast<Progress<BN> *>(vt + 2 * BN * D);
    Rows qm = {a.q + (lo - a.first) * a.q_stride + head * a.width, a.q_stride, a.width};
    Rows km = {a.k + kv_head * a.kv_head_stride, a.kv_stride, a.width};
    Rows vm = {a.v + kv_head * a.kv_head_stride, a.kv_stride, a.width};

    for (int j = 0; j < 2; j++) {
        int key;
        Tile t = walk.template next<SPARSE>(thread(), key);
        if (thread() == 0) p.tiles[j] = t;
        if (SPARSE && thread() < BN) p.rows[j][thread()] = key;
    }
    if (thread() == 0) p.walk[0] = walk, p.lo = lo, p.hi = hi;
    sync_block();
    UNROLL_2 for (int i = 0; i < BM * D / 8 / 128; i++) {
        int n = i * 128 + thread(), r = n / (D / 8), c = n % (D / 8);
        load_chunk(qt + tile_at<D>(r, c), qm, r, c, r < hi - lo);
    }
    load_keys<D, BN, SPARSE>(kt, km, p.tiles[0], p.rows[0]);
    load_keys<D, BN, SPARSE>(vt, vm, p.tiles[0], p.rows[0]);
    copy_commit();

    float o[MT][D / 8][4];
    Softmax state[MT];
    auto first_row = [&] { return p.lo + warp() * 16 * MT + lane() / 4; };  // of this lane
    UNROLL for (int m = 0; m < MT; m++) {
        state[m].start();
        UNROLL for (int n = 0; n < D / 8; n++)
            UNROLL for (int i = 0; i < 4; i++) o[m][n][i] = 0;
    }
    NO_UNROLL for (int j = 0;; j++) {
        copy_wait<0>();
        sync_block();
        const volatile Tile &now = p.tiles[j % 3];  // read where it is needed: registers are dear
        if (now.n <= 0) break;
        int stage = j % 2 * BN * D, other = BN * D - stage, key;
        if (p.tiles[(j + 1) % 3].n > 0) {
            load_keys<D, BN, SPARSE>(kt + other, km, p.tiles[(j + 1) % 3], p.rows[(j + 1) % 3]);
            load_keys<D, BN, SPARSE>(vt + other, vm, p.tiles[(j + 1) % 3], p.rows[(j + 1) % 3]);
        }
        copy_commit();
        {
            Walk<BN> w = p.walk[j % 2];
            Tile later = w.template next<SPARSE>(thread(), key);
            if (thread() == 0) p.tiles[(j + 2) % 3] = later, p.walk[(j + 1) % 2] = w;
        }

        float s[MT][BN / 8][4];
        UNROLL for (int m = 0; m < MT; m++)
            UNROLL for (int n = 0; n < BN / 8; n++)
                UNROLL for (int i = 0; i < 4; i++) s[m][n][i] = 0;
        UNROLL for (int d = 0; d < D / 16; d++) {
            uint32_t qa[MT][4];
            UNROLL for (int m = 0; m < MT; m++) fragment_a<D>(qa[m], qt, (warp() * MT + m) * 16, d);
            UNROLL for (int n = 0; n < BN / 16; n++) {
                uint32_t kb[4];
                fragment_b<D>(kb, kt + stage, n * 16, d);
                UNROLL for (int m = 0; m < MT; m++) {
                    mma(s[m][2 * n], qa[m], kb[0], kb[1]);
                    mma(s[m][2 * n + 1], qa[m], kb[2], kb[3]);
                }
            }
        }
        bool masked = now.natural && now.base + BN - 1 > p.lo;
        if (masked || now.holes) {
            int pos = first_row();
            const int *there = p.rows[j % 3];
            UNROLL for (int n = 0; n < BN / 8; n++)
                UNROLL for (int i = 0; i < 2; i++) {
                    int col = n * 8 + lane() % 4 * 2 + i;
                    bool hole = SPARSE && now.holes && there[col] < 0;
                    UNROLL for (int m = 0; m < MT; m++)
                        UNROLL for (int half = 0; half < 2; half++)
                            if (hole || (now.natural && now.base + col > pos + m * 16 + half * 8)) s[m][n][2 * half + i] = -INF;
                }
        }
        UNROLL for (int m = 0; m < MT; m++) {
            float scale[2];
            state[m].update(s[m], a.c, scale);
            UNROLL for (int n = 0; n < D / 8; n++)
                UNROLL for (int i = 0; i < 4; i++) o[m][n][i] *= scale[i / 2];
        }
        if (masked) guard_values<D, BN, MT>(o, vt + stage, now.base, now.n, first_row());
        auto probabilities = [&](uint32_t (&pa)[4], int m, int n) {
            UNROLL for (int i = 0; i < 4; i++) pa[i] = pack_bf16(s[m][2 * n + i / 2][i % 2 * 2], s[m][2 * n + i / 2][i % 2 * 2 + 1]);
        };
        UNROLL for (int n = 0; n < BN / 16; n++) {
            uint32_t pa[MT][4];
            UNROLL for (int m = 0; m < MT; m++) probabilities(pa[m], m, n);
            UNROLL for (int d = 0; d < D / 16; d++) {
                uint32_t vb[4];
                fragment_v<D>(vb, vt + stage, n * 16, d);
                UNROLL for (int m = 0; m < MT; m++) {
                    mma(o[m][2 * d], pa[m], vb[0], vb[1]);
                    mma(o[m][2 * d + 1], pa[m], vb[2], vb[3]);
                }
            }
        }
        if (SPARSE && thread() < BN) p.rows[(j + 2) % 3][thread()] = key;
    }
    uint16_t *out = a.out + head * a.head_dim;
    int pos = first_row(), end = p.hi;
    UNROLL for (int m = 0; m < MT; m++)
        UNROLL for (int half = 0; half < 2; half++) {
            float sum = quad_sum(state[m].sum[half]);
            int at = pos + m * 16 + half * 8;
            if (at >= end) continue;
            float inv = 1 / sum;
            uint16_t *row = out + (at - a.first) * a.out_stride;
            UNROLL for (int n = 0; n < D / 8; n++) {
                int col = n * 8 + lane() % 4 * 2;
                if (col < a.head_dim) *reinterpret_cast<uint32_t *>(row + col) = pack_bf16(o[m][n][2 * half] * inv, o[m][n][2 * half + 1] * inv);
            }
        }
}
