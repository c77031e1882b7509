// Four-lane vectors in plain C under the names that the templates use; compilers map them to whatever the target has.
#pragma once
#include "bf16.h"
#include "host.h"

typedef float V __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t VI __attribute__((vector_size(16), aligned(4), may_alias));

#define TARGET
#define VL 4
#define VLOAD(p) (*(const V *)(p))
#define VSTORE(p, v) (*(V *)(p) = (v))
#define VSET1(x) ((V){} + (float)(x))
#define VBCAST(p) ((V){} + *(p))
#define VFMA(a, b, c) ((a) * (b) + (c))
#define VADD(a, b) ((a) + (b))
#define VMAX(a, b) vmax(a, b)
#define VHMAX(v) vhmax(v)
#define VHSUM(v) (((v)[0] + (v)[1]) + ((v)[2] + (v)[3]))
#define VANY_ABOVE(v, x) vany((VI)((v) > VSET1(x)))
#define VPAIR(p, lo, hi) vpair(p, &(lo), &(hi))

ALWAYS_INLINE V vselect(VI mask, V a, V b) { return (V)(((VI)a & mask) | ((VI)b & ~mask)); }
ALWAYS_INLINE int vany(VI mask) { return (mask[0] | mask[1] | mask[2] | mask[3]) != 0; }
ALWAYS_INLINE V vmax(V a, V b) { return vselect((VI)(a > b), a, b); }

ALWAYS_INLINE float vhmax(V v) {
    float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
}

// The even and the odd ones of 8 bf16.
ALWAYS_INLINE void vpair(const char *p, V *lo, V *hi) {
    const uint16_t *x = (const uint16_t *)p;
    *lo = (V){bf16_widen(x[0]), bf16_widen(x[2]), bf16_widen(x[4]), bf16_widen(x[6])};
    *hi = (V){bf16_widen(x[1]), bf16_widen(x[3]), bf16_widen(x[5]), bf16_widen(x[7])};
}

// 2^x for x <= 2^7, within 2 ulp; 0 below 2^-127, NaN stays NaN. Adding the magic number rounds x to an integer n and leaves
// n + 127 in the low bits; what remains, in [-1/2, 1/2], goes through a minimax polynomial (7.5e-8).
ALWAYS_INLINE V vexp2(V x) {
    x = vmax(VSET1(-127), x);
    V magic = VSET1(12582912.0f + 127), y = x + magic, r = x - (y - magic);
    V p = VSET1(0.00132764725f);
    p = p * r + VSET1(0.00967554096f);
    p = p * r + VSET1(0.0555071309f);
    p = p * r + VSET1(0.240221202f);
    p = p * r + VSET1(0.693146944f);
    p = p * r + VSET1(1.00000012f);
    return p * (V)((VI)y << 23);
}
