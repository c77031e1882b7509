// Conversions of single bf16 values; loops over them vectorise.
#pragma once
#include <stdint.h>
#include <string.h>

static inline __attribute__((always_inline)) float bf16_widen(uint16_t x) {
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

// Round to nearest even; a NaN stays one, whatever its bits.
static inline __attribute__((always_inline)) uint16_t bf16_narrow(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    uint32_t r = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? (u >> 16) | 0x40 : r);
}
