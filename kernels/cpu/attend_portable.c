// Attention in plain C with four-lane vectors, which compilers map to whatever the target has.
#include "attend.h"
#include "vec_portable.h"
#include <math.h>

#define ISA portable
#define PAIRS 0
#define MR 4
#define KT 128
#define ST 128
#define RG 32
#define VEXP2(x) vexp2(x)
#define VVISIBLE(s, kpos, pos) vvisible(s, kpos, pos)
#define MAC(acc, x, y) ((acc) + (x) * (y))
#define TRANSPOSE(dst, src, ld) transpose(dst, src, ld)

ALWAYS_INLINE V vvisible(V s, const int32_t *kpos, int32_t pos) {
    return vselect((VI)(*(const VI *)kpos <= (VI){} + pos), s, VSET1(-__builtin_inff()));
}
ALWAYS_INLINE void transpose(float *dst, const float *src, int64_t ld) {
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) memcpy(dst + j * 8 + i, src + i * ld + j, 4);
}

#include "attend_tile.h"
#include "attend_blocks.h"
#include "attend_strided.h"
#include "attend_lines.h"

#define DISA portable
#define VREDUCE4(dst, a, b, c, d) ((dst)[0] = VHSUM(a), (dst)[1] = VHSUM(b), (dst)[2] = VHSUM(c), (dst)[3] = VHSUM(d))
#include "attend_decode.h"
