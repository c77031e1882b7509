// Dense attention: prefill by row tiles, decode by ranges of keys.
#include "attend.cuh"

// A grid of (tiles · group, kv heads). The tile sizes are those of tileOf in ../attend.go.
KERNEL(attend_64, AttendArgs, 128, 2) { attend<64, 128, 64, false>(a); }
KERNEL(attend_128, AttendArgs, 128, 2) { attend<128, 128, 64, false>(a); }
KERNEL(attend_256, AttendArgs, 128, 1) { attend<256, 64, 32, false>(a); }

// Decode: one query row. A block takes one range of the keys of one kv head and up to 16 of the query heads that read it, which
// are the rows of a fragment; its four warps take 16 keys each of a tile of 64. What ranges have found is merged by
// decode_merge.
//
// A grid of (ranges, kv heads, ceil(group/16)). Shared memory: Q [16][D], K and V [2][64][D], at head dim 256 [64][D]; at the end [4][16][D+2] f32.
struct DecodeArgs {
    const uint16_t *q, *k, *v;  // rows 16-byte aligned
    float *parts;       // [heads][ranges][2 + D]: maximum times c, sum, outputs
    uint16_t *out;
    const int64_t *at;  // position of the row, or null: `position`
    int64_t position, kv_stride, kv_head_stride;
    int32_t group, head_dim, width, ranges;
    float c;
};

template <int D> DEVICE void decode(const DecodeArgs &a) {
    constexpr int BN = 64, STAGES = D <= 128 ? 2 : 1;  // 99 KiB hold no more
    int64_t keys = (a.at ? *a.at : a.position) + 1;
    int64_t per = ceil_div(ceil_div(keys, a.ranges), BN) * BN, k0 = blockIdx.x * per, k1 = min(k0 + per, keys);
    int kv_head = blockIdx.y, row0 = blockIdx.z * 16, heads = min(16, a.group - row0), head0 = kv_head * a.group + row0;
    uint16_t *qt = reinterpret_cast<uint16_t *>(shared_memory()), *kt = qt + 16 * D, *vt = kt + STAGES * BN * D;
    Rows qm = {a.q + static_cast<int64_t>(head0) * a.width, a.width, a.width};
    Rows km = {a.k + kv_head * a.kv_head_stride, a.kv_stride, a.width};
    Rows vm = {a.v + kv_head * a.kv_head_stride, a.kv_stride, a.width};
    float o[D / 8][4];
    Softmax state;
    state.start();
    UNROLL for (int n = 0; n < D / 8; n++)
        UNROLL for (int i = 0; i < 4; i++) o[n][i] = 0;
    load_tile<16, D, 128>(qt, qm, 0, heads, 0);
    load_tile<BN, D, 128>(kt, km, k0, k1, 0);
    load_tile<BN, D, 128>(vt, vm, k0, k1, 0);
    copy_commit();
    NO_UNROLL for (int64_t base = k0, j = 0; base < k1; base += BN, j++) {
        copy_wait<0>();
        sync_block();
        int stage = STAGES == 2 ? j % 2 * BN * D : 0, other = STAGES == 2 ? BN * D - stage : 0;
        auto load_next = [&] {
            if (base + BN < k1) {
                load_tile<BN, D, 128>(kt + other, km, base + BN, k1, 0);
                load_tile<BN, D, 128>(vt + other, vm, base + BN, k1, 0);
            }
            copy_commit();
        };
        if (STAGES == 2) load_next();
        float s[2][4];
        UNROLL for (int n = 0; n < 2; n++)
            UNROLL for (int i = 0; i < 4; i++) s[n][i] = 0;
        UNROLL for (int d = 0; d < D / 16; d++) {
            uint32_t qa[4], kb[4];
            fragment_a<D>(qa, qt, 0, d);
            fragment_b<D>(kb, kt + stage, warp() * 16, d);
            mma(s[0], qa, kb[0], kb[1]);
            mma(s[1], qa, kb[2], kb[3]);
        }
        UNROLL for (int n = 0; n < 2; n++)
            UNROLL for (int i = 0; i < 4; i++)
                if (base + warp() * 16 + n * 8 + lane() % 4 * 2 + i % 2 >= k1) s[n][i] = -INF;
        float scale[2];
        state.update(s, a.c, scale);
        uint32_t p[4];
        UNROLL for (int i = 0; i < 4; i++) p[i] = pack_bf16(s[i / 2][i % 2 * 2], s[i / 2][i % 2 * 2 + 1]);
        UNROLL for (int d = 0; d < D / 16; d++) {
            uint32_t vb[4];
            fragment_v<D>(vb, vt + stage, warp() * 16, d);
            UNROLL for (int n = 0; n < 2; n++) {
                UNROLL for (int i = 0; i < 4; i++) o[2 * d + n][i] *= scale[i / 2];
                mma(o[2 * d + n], p, vb[2 * n], vb[2 * n + 1]);
            }
        }
        if (STAGES == 1) {
            sync_block();
            load_next();
        }
    }
    copy_wait<0>();
    sync_block();
    float *parts = reinterpret_cast<float *>(shared_memory());  // [4][16][D + 2]
    UNROLL for (int half = 0; half < 2; half++) {
        float *part = parts + (warp() * 16 + lane() / 4 + half * 8) * (D + 2), sum = quad_sum(state.sum[half]);
        if (lane() % 4 == 0) part[0] = state.top[half], part[1] = sum;
        UNROLL for (int n = 0; n < D / 8; n++)
            UNROLL for (int i = 0; i < 2; i++) part[2 + n * 8 + lane() % 4 * 2 + i] = o[n][2 * half + i];
    }
    sync_block();
    for (int i = thread(); i < heads * (a.head_dim + 1); i += 128) {
        int r = i / (a.head_dim + 1), d = i % (a.head_dim + 1) - 1;  // -1: maximum and sum
        float top = -INF, sum = 0;
        for (int w = 0; w < 4; w++) top = fmaxf(top, parts[(w * 16 + r) * (D + 2)]);
        for (int w = 0; w < 4; w++) {
            const float *part = parts + (w * 16 + r) * (D + 2);
            if (part[1] != 0) sum += exp2_fast(part[0] - (top == -INF ? 0 : top)) * part[2 + (d < 0 ? -1 : d)];
        }
        float *to = a.parts + (static_cast<int64_t>(head0 + r) * a.ranges + blockIdx.x) * (2 + a.head_dim);
        if (d < 0) to[0] = top, to[1] = sum;
        else to[2 + d] = sum;
    }
}

KERNEL(decode_64, DecodeArgs, 128, 3) { decode<64>(a); }
KERNEL(decode_128, DecodeArgs, 128, 2) { decode<128>(a); }
KERNEL(decode_256, DecodeArgs, 128, 1) { decode<256>(a); }

// decode_merge: one block of 128 a query head.
KERNEL(decode_merge, DecodeArgs, 128, 1) {
    int64_t head = block_id();
    const float *parts = a.parts + head * a.ranges * (2 + a.head_dim);
    float top = -INF;
    for (int r = 0; r < a.ranges; r++) top = fmaxf(top, parts[static_cast<int64_t>(r) * (2 + a.head_dim)]);
    float shift = top == -INF ? 0 : top;
    for (int d = thread(); d < a.head_dim; d += threads()) {
        float sum = 0, o = 0;
        for (int r = 0; r < a.ranges; r++) {
            const float *part = parts + static_cast<int64_t>(r) * (2 + a.head_dim);
            if (part[1] == 0) continue;
            float w = exp2_fast(part[0] - shift);
            sum += w * part[1], o += w * part[2 + d];
        }
        a.out[head * a.head_dim + d] = static_cast<uint16_t>(pack_bf16(o / sum, 0));
    }
}
