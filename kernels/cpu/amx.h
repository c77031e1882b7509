// The tile configuration that every AMX kernel uses.
#pragma once
#include <immintrin.h>
#include <stdint.h>

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
