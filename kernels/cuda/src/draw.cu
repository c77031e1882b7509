// Random weights by kernels.Recipe, blocks of 256 in turns over 8-byte words.
#include "common.cuh"

struct DrawArgs {
    uint64_t *out;
    const void *levels;  // [mask+1] of the dtype
    uint64_t state;
    int64_t words;
    int32_t mask, wide;  // wide: elements of 4 bytes, else 2
};

// mix is the output function of splitmix64.
DEVICE uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

KERNEL(draw, DrawArgs, 256, 1) {
    int64_t step = static_cast<int64_t>(gridDim.x) * 256;
    for (int64_t w = block_id() * 256 + thread(); w < a.words; w += step) {
        uint64_t r = mix(mix(a.state + (w >> 17)) + ((w & 0x1ffff) + 1) * 0x9e3779b97f4a7c15u), x = 0;
        if (a.wide) {
            UNROLL for (int i = 0; i < 64; i += 32) x |= static_cast<uint64_t>(static_cast<const uint32_t *>(a.levels)[r >> i & a.mask]) << i;
        } else {
            UNROLL for (int i = 0; i < 64; i += 16) x |= static_cast<uint64_t>(static_cast<const uint16_t *>(a.levels)[r >> i & a.mask]) << i;
        }
        a.out[w] = x;
    }
}
