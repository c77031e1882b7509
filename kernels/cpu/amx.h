// The tile configuration that every AMX kernel uses, and tiles in plain C for tests of those kernels where no AMX is.
#pragma once
#include <immintrin.h>
#include <stdint.h>

#ifndef PBS_SOFT_AMX
// Makes all eight tiles 16 rows of 64 bytes.
__attribute__((target("amx-tile"))) static inline void amx_configure(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++)
        config.bytes[i] = 64, config.rows[i] = 16;
    __asm__ volatile("" ::: "memory"); // gcc 12 takes the intrinsic to read 8 bytes only, and drops the other stores
    _tile_loadconfig(&config);
}
#else  // as the Intel 64 manual's volume 2 describes TILELOADD, TILESTORED and TDPBF16PS, for tiles of that one size
#include <string.h>

static _Thread_local uint32_t soft_tiles[8][16][16];

static inline void amx_configure(void) { memset(soft_tiles, 0, sizeof soft_tiles); }
static inline void soft_tile_load(int t, const void *p, int64_t stride) {
    for (int r = 0; r < 16; r++) memcpy(soft_tiles[t][r], (const char *)p + r * stride, 64);
}
static inline void soft_tile_store(int t, void *p, int64_t stride) {
    for (int r = 0; r < 16; r++) memcpy((char *)p + r * stride, soft_tiles[t][r], 64);
}
static inline float soft_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
static inline void soft_tile_multiply(int c, int a, int b) {
    for (int m = 0; m < 16; m++) {
        float even[16] = {0}, odd[16] = {0}, sums[16];
        for (int k = 0; k < 16; k++) {
            float lo = soft_float(soft_tiles[a][m][k] << 16), hi = soft_float(soft_tiles[a][m][k] & 0xffff0000);
            for (int n = 0; n < 16; n++) {
                even[n] += lo * soft_float(soft_tiles[b][k][n] << 16);
                odd[n] += hi * soft_float(soft_tiles[b][k][n] & 0xffff0000);
            }
        }
        memcpy(sums, soft_tiles[c][m], 64);
        for (int n = 0; n < 16; n++) sums[n] += even[n] + odd[n];
        memcpy(soft_tiles[c][m], sums, 64);
    }
}
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#undef _tile_release
#define _tile_zero(t) memset(soft_tiles[t], 0, sizeof soft_tiles[t])
#define _tile_loadd(t, p, stride) soft_tile_load(t, p, stride)
#define _tile_stored(t, p, stride) soft_tile_store(t, p, stride)
#define _tile_dpbf16ps(c, a, b) soft_tile_multiply(c, a, b)
#define _tile_release() ((void)0)
#endif
