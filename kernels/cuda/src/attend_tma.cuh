// Prefill attention on sm_90a by warps with roles, after FlashAttention-3 (arXiv 2407.08608): a block computes 128 query rows of one head
// over tiles of 128 keys. Warpgroup 0 brings queries, keys and values to shared memory; warpgroups 1 and 2 compute 64 rows each.
//
//   shared memory: Q [128][D], K and V [3][128][D] each, in parts of 64 columns (hopper.cuh), Control
//
// Dense: one thread has the tensor memory accelerator copy whole tiles. Sparse: keys lie scattered, which it cannot gather on sm_90, so
// all threads of warpgroup 0 copy rows by cp.async, a thread looking up one key of a tile, and tell of each tile what it is.
//
// Barriers, for each of the three stages of K and of V: `full` ends a phase when a tile is there, `empty` when all eight warps that
// compute have done with it. Tile j is the (j/3)-th to use stage j%3, so it is the phase of parity j/3%2 of `full` that brings it; and
// before it is copied, the phase of the use before, of the other parity, must have ended at `empty`: the first use passes at once, since a fresh
// barrier lets parity 1 pass. Of two stages the slower warpgroup would give back one only when the faster already waits for it.
//
// A warpgroup of the computing ones has scores of tile j and outputs of tile j-1 in the tensor cores at a time, and computes the softmax of
// tile j while the latter runs. Named barriers 1 and 2 have the two take turns at issuing, so that the softmax of one falls
// into the products of the other.
//
// V must be finite: a probability of 0 times NaN or infinity would spoil rows that may not see it. find_odd looks, and where V is not, this
// kernel does nothing and that of attend.cuh, queued behind it, computes.
#pragma once

#include "attend.cuh"
#include "hopper.cuh"

struct TmaArgs {
    TensorMap q, k, v;  // [heads or kv heads][rows][width]
    AttendArgs a;
};

static const int TILE = 128;   // rows and keys
static const int STAGES = 3;   // of K and of V

// Item is what the consumers must know of a tile of keys.
struct Item {
    int n;               // keys there; 0: no tile, the end
    bool natural;        // keys base, base+1, ... under the causal mask
    int base;
    uint32_t holes[4];   // of tiles that are not natural: bits of places without a key
};

struct Control {
    Barrier q, k_full[STAGES], k_empty[STAGES], v_full[STAGES], v_empty[STAGES];
    Item items[STAGES];  // by stage of K, sparse only
};

static_assert(sizeof(Control) <= 256, "controlBytes in ../attend_tma.go");

// Buffers is where things lie in shared memory.
template <int D> struct Buffers {
    uint16_t *q;
    Control *control;
    METHOD uint16_t *k(int stage) { return q + (1 + stage) * TILE * D; }
    METHOD uint16_t *v(int stage) { return q + (1 + STAGES + stage) * TILE * D; }
};

// Turn is a tile's: its stage, and the parity of the phase that brings it.
struct Turn {
    int stage, parity;
    METHOD Turn next() const { return stage + 1 == STAGES ? Turn{0, parity ^ 1} : Turn{stage + 1, parity}; }
};

// release says that this warp has done with a stage.
DEVICE void release(Barrier &empty) {
    sync_warp();
    if (lane() == 0) arrive(empty);
}

// load_tma copies a tile of [.., D] from a map, from a row on.
template <int D> DEVICE void load_tma(uint16_t *to, const TensorMap &m, Barrier &full, int row, int head) {
    arrive_expecting(full, TILE * D * 2);
    UNROLL for (int part = 0; part < D / 64; part++) load_box(to + part * TILE * 64, m, full, part * 64, row, head);
}

// load_rows copies rows of K or V by their keys, that of place r being `key` in lane r%32 of warp r/32; rows without a key become zero.
template <int D> DEVICE void load_rows(uint16_t *to, const Rows &m, int key) {
    constexpr int CHUNKS = D / 8;  // of a row
    UNROLL_4 for (int i = 0; i < CHUNKS; i++) {
        int r = (i * 32 + lane()) / CHUNKS, c = lane() % CHUNKS;
        int from = static_cast<int>(shuffle(static_cast<uint32_t>(key), r));
        load_chunk(to + c / 8 * TILE * 64 + tile_at<64>(warp() * 32 + r, c % 8), m, from, c, from >= 0);
    }
}

template <int D> DEVICE void produce(const TmaArgs &args, Buffers<D> b, const Part &part) {
    Control &c = *b.control;
    load_tma<D>(b.q, args.q, c.q, part.lo - static_cast<int>(args.a.first), part.head);
    Turn at = {0, 0};
    NO_UNROLL for (int row = 0; row < part.hi; row += TILE, at = at.next()) {
        wait(c.k_empty[at.stage], at.parity ^ 1);
        load_tma<D>(b.k(at.stage), args.k, c.k_full[at.stage], row, part.kv_head);
        wait(c.v_empty[at.stage], at.parity ^ 1);
        load_tma<D>(b.v(at.stage), args.v, c.v_full[at.stage], row, part.kv_head);
    }
}

// produce_sparse: what a thread copied it waits for and shows to the tensor cores before it arrives at `full`, one copy later, so that two
// are under way. A consumer that has yet to empty a stage never waits for the copy that has not been told of.
template <int D> DEVICE void produce_sparse(const TmaArgs &args, Buffers<D> b, const Part &part, Walk<TILE> &walk) {
    const AttendArgs &a = args.a;
    Control &c = *b.control;
    if (thread() == 0) load_tma<D>(b.q, args.q, c.q, part.lo - static_cast<int>(a.first), part.head);
    Rows km = {a.k + part.kv_head * a.kv_head_stride, a.kv_stride, a.width};
    Rows vm = {a.v + part.kv_head * a.kv_head_stride, a.kv_stride, a.width};
    auto done = [&](Barrier &full) {
        wgmma_visible();
        arrive(full);
    };
    int key, later_key = -1;
    Tile now = walk.template next<true>(thread(), key);
    Turn at = {0, 0};
    NO_UNROLL for (int before = -1;; before = at.stage, at = at.next()) {  // the stage before
        Tile later = {0, true, false, 0};
        if (now.n > 0) later = walk.template next<true>(thread(), later_key);
        int stage = at.stage;
        wait(c.k_empty[stage], at.parity ^ 1);
        uint32_t holes = vote(key < 0);
        if (lane() == 0) c.items[stage].holes[warp()] = holes;
        if (thread() == 0) c.items[stage].n = now.n, c.items[stage].natural = now.natural, c.items[stage].base = now.base;
        if (now.n > 0) load_rows<D>(b.k(stage), km, key);
        copy_commit();
        if (before >= 0) {
            copy_wait<1>();
            done(c.v_full[before]);
        }
        if (now.n <= 0) {
            arrive(c.k_full[stage]);
            break;
        }
        wait(c.v_empty[stage], at.parity ^ 1);
        load_rows<D>(b.v(stage), vm, key);
        copy_commit();
        copy_wait<1>();
        done(c.k_full[stage]);
        now = later, key = later_key;
    }
}

// mask gives scores of keys that a row does not see, or that are not there, the value -inf.
DEVICE void mask(float (&s)[TILE / 8][4], const Item &now, const uint32_t *holes, int top, int row) {
    if (now.natural && now.base + TILE - 1 > top) {
        UNROLL for (int n = 0; n < TILE / 8; n++)
            UNROLL for (int i = 0; i < 4; i++)
                if (now.base + n * 8 + lane() % 4 * 2 + i % 2 > row + i / 2 * 8) s[n][i] = -INF;
    }
    if (!now.natural && (holes[0] | holes[1] | holes[2] | holes[3])) {
        UNROLL for (int n = 0; n < TILE / 8; n++) {
            uint32_t here = holes[n / 4] >> (n % 4 * 8 + lane() % 4 * 2);
            UNROLL for (int i = 0; i < 4; i++)
                if (here >> i % 2 & 1) s[n][i] = -INF;
        }
    }
}

template <int D, bool SPARSE> DEVICE void consume(const TmaArgs &args, Buffers<D> b, const Part &part) {
    const AttendArgs &a = args.a;
    Control &c = *b.control;
    int group = warp() / 4 - 1, top = part.lo + group * 64, row = top + warp() % 4 * 16 + lane() / 4;  // positions
    float o[D / 8][4], s[TILE / 8][4], scale[2];
    uint32_t p[TILE / 16][4];
    Softmax state;
    state.start();
    UNROLL for (int n = 0; n < D / 8; n++)
        UNROLL for (int i = 0; i < 4; i++) o[n][i] = 0;
    auto queue_qk = [&](int stage) {
        Descriptor q = describe(b.q + group * 64 * 64, 16), k = describe(b.k(stage), 16);
        wgmma_begin();
        UNROLL for (int d = 0; d < D / 16; d++) queue_scores(s, advance(q, d / 4 * TILE * 128 + d % 4 * 32), advance(k, d / 4 * TILE * 128 + d % 4 * 32), d > 0);
        wgmma_commit();
    };
    auto queue_pv = [&](int stage) {
        Descriptor v = describe(b.v(stage), TILE * 128);
        wgmma_begin();
        UNROLL for (int n = 0; n < TILE / 16; n++) queue_outputs(o, p[n], advance(v, n * 16 * 128));
        wgmma_commit();
    };
    auto item = [&](int stage, int base) {
        Item x = {min(TILE, part.hi - base), true, base, {}};
        if (SPARSE) x.n = c.items[stage].n, x.natural = c.items[stage].natural, x.base = c.items[stage].base;
        return x;
    };
    // finish_qk masks the scores of a tile, gives its keys back, makes probabilities of the scores and waits for the values. The compiler
    // does not move the softmax over that wait, as it would over one for wgmma: so it runs beside the products of the tile before.
    auto finish_qk = [&](Turn at, const Item &now) {
        mask(s, now, c.items[at.stage].holes, top, row);
        release(c.k_empty[at.stage]);
        state.update(s, a.c, scale);
        wait(c.v_full[at.stage], at.parity);
    };
    auto pack = [&] {
        UNROLL for (int n = 0; n < TILE / 16; n++)
            UNROLL for (int i = 0; i < 4; i++) p[n][i] = pack_bf16(s[2 * n + i / 2][i % 2 * 2], s[2 * n + i / 2][i % 2 * 2 + 1]);
    };

    if (group == 1) arrive_named(1, 256);  // the first turn is group 0's
    Turn at = {0, 0};
    wait(c.q, 0);
    wait(c.k_full[0], 0);
    Item now = item(0, 0);
    queue_qk(0);
    wgmma_wait<0>();
    hold(s);
    finish_qk(at, now);
    pack();
    int before = 0;  // the stage of the tile before
    NO_UNROLL for (int base = TILE;; base += TILE) {
        if (!SPARSE && base >= part.hi) break;
        at = at.next();
        wait(c.k_full[at.stage], at.parity);
        now = item(at.stage, base);
        if (SPARSE && now.n <= 0) break;
        meet_named(1 + group, 256);
        queue_qk(at.stage);
        queue_pv(before);
        arrive_named(2 - group, 256);
        wgmma_wait<1>();
        hold(s);
        finish_qk(at, now);
        wgmma_wait<0>();
        hold(o);
        release(c.v_empty[before]);
        before = at.stage;
        UNROLL for (int n = 0; n < D / 8; n++)
            UNROLL for (int i = 0; i < 4; i++) o[n][i] *= scale[i / 2];
        pack();
    }
    queue_pv(before);
    wgmma_wait<0>();
    hold(o);

    uint16_t *out = a.out + part.head * a.head_dim;
    UNROLL for (int half = 0; half < 2; half++) {
        float inv = 1 / quad_sum(state.sum[half]);
        int at = row + half * 8;
        if (at >= part.hi) continue;
        uint16_t *to = out + (at - a.first) * a.out_stride;
        UNROLL for (int n = 0; n < D / 8; n++) {
            int col = n * 8 + lane() % 4 * 2;
            if (col < a.head_dim) *reinterpret_cast<uint32_t *>(to + col) = pack_bf16(o[n][2 * half] * inv, o[n][2 * half + 1] * inv);
        }
    }
}

template <int D, bool SPARSE> DEVICE void attend_tma(const TmaArgs &args) {
    const AttendArgs &a = args.a;
    Walk<TILE> walk;
    Part part = begin<TILE, TILE, SPARSE>(a, walk);
    if (part.lo >= part.hi || *a.odd) return;
    Buffers<D> b = {reinterpret_cast<uint16_t *>(shared_memory()), nullptr};
    b.control = reinterpret_cast<Control *>(b.v(STAGES));
    Control &c = *b.control;
    if (thread() == 0) {
        init(c.q, 1);
        for (int i = 0; i < STAGES; i++) {
            init(c.k_full[i], SPARSE ? 128 : 1), init(c.v_full[i], SPARSE ? 128 : 1);
            init(c.k_empty[i], 8), init(c.v_empty[i], 8);
        }
        init_done();
    }
    if (interrupted(a)) return;
    if (warp() < 4) {
        give_registers<SPARSE ? 56 : 24>();
        if (SPARSE) produce_sparse<D>(args, b, part, walk);
        else if (thread() == 0) produce<D>(args, b, part);
    } else {
        take_registers<SPARSE ? 224 : 240>();
        consume<D, SPARSE>(args, b, part);
    }
}
