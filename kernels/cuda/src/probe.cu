// What attend_tma.cuh stands on, one thing at a time, for tests on new hardware: whether a box lands where it is looked for, and whether the
// tensor cores read tiles as described. A block of one warpgroup; q and k are [128][128].
#include "hopper.cuh"

struct ProbeArgs {
    TensorMap q, k;
    float *out;    // [128][128], [64][128] or [64][128]
    int32_t what;  // 0: k as copied; 1: the first 64 rows of q by k transposed; 2: those by k
    int32_t pad[13];
};

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ON_SM90(body)
#else
#define ON_SM90(body) body
#endif

DEVICE void probe(const ProbeArgs &a) {
    const int N = 128;
    uint16_t *q = reinterpret_cast<uint16_t *>(shared_memory()), *k = q + N * N;
    Barrier &full = *reinterpret_cast<Barrier *>(k + N * N);
    if (thread() == 0) {
        init(full, 1);
        init_done();
    }
    sync_block();
    if (thread() == 0) {
        arrive_expecting(full, 2 * N * N * 2);
        for (int part = 0; part < 2; part++) {
            load_box(q + part * N * 64, a.q, full, part * 64, 0, 0);
            load_box(k + part * N * 64, a.k, full, part * 64, 0, 0);
        }
    }
    wait(full, 0);
    if (a.what == 0) {
        for (int i = thread(); i < N * N; i += threads()) {
            int r = i / N, c = i % N;
            a.out[i] = widen_bf16(k[c / 64 * N * 64 + tile_at<64>(r, c % 64 / 8) + c % 8]);
        }
        return;
    }
    float s[16][4];
    UNROLL for (int n = 0; n < 16; n++)
        UNROLL for (int i = 0; i < 4; i++) s[n][i] = 0;
    if (a.what == 1) {
        wgmma_begin();
        UNROLL for (int d = 0; d < 8; d++)
            queue_scores(s, advance(describe(q, 16), d / 4 * N * 128 + d % 4 * 32), advance(describe(k, 16), d / 4 * N * 128 + d % 4 * 32), d > 0);
        wgmma_commit();
        wgmma_wait<0>();
        hold(s);
    } else {
        uint32_t p[8][4];
        UNROLL for (int n = 0; n < 8; n++) fragment_a<64>(p[n], q + n / 4 * N * 64, warp() * 16, n % 4);
        wgmma_begin();
        UNROLL for (int n = 0; n < 8; n++) queue_outputs(s, p[n], advance(describe(k, N * 128), n * 16 * 128));
        wgmma_commit();
        wgmma_wait<0>();
        hold(s);
    }
    UNROLL for (int n = 0; n < 16; n++)
        UNROLL for (int i = 0; i < 4; i++) a.out[(warp() * 16 + lane() / 4 + i / 2 * 8) * N + n * 8 + lane() % 4 * 2 + i % 2] = s[n][i];
}

KERNEL(probe_sm90, ProbeArgs, 128, 1) { ON_SM90((probe(a))); }
