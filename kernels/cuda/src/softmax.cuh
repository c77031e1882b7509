// The online softmax of attention (arXiv 2205.14135, 2307.08691) on fragments of scores, in powers of two.
#pragma once

#include "mma.cuh"

// quad_max and quad_sum reduce over the four lanes that share a fragment's row.
DEVICE float quad_max(float x) {
    x = fmaxf(x, shuffle_float(x, lane() ^ 1));
    return fmaxf(x, shuffle_float(x, lane() ^ 2));
}
DEVICE float quad_sum(float x) {
    x += shuffle_float(x, lane() ^ 1);
    return x + shuffle_float(x, lane() ^ 2);
}

// Softmax is the state of a fragment's two rows, g and g+8: the running maximum times c, and this lane's share of the sum. The
// rounding of maximum times c is the same for all scores of a row, and cancels.
struct Softmax {
    float top[2], sum[2];

    METHOD void start() {
        top[0] = top[1] = -INF;
        sum[0] = sum[1] = 0;
    }

    // update takes in T fragments of scores, which become probabilities, and returns by what to scale what was summed before. A row
    // that has seen nothing but -inf stays at zero.
    template <int T> METHOD void update(float (&s)[T][4], float c, float (&scale)[2]) {
        UNROLL for (int h = 0; h < 2; h++) {
            float m = -INF;
            UNROLL for (int j = 0; j < T; j++) m = fmaxf(m, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
            m = fmaxf(top[h], quad_max(m) * c);
            float shift = m == -INF ? 0 : m;
            scale[h] = exp2_fast(top[h] - shift);
            top[h] = m;
            float l = 0;
            UNROLL for (int j = 0; j < T; j++)
                UNROLL for (int i = 2 * h; i < 2 * h + 2; i++) {
                    s[j][i] = exp2_fast(fmaf(s[j][i], c, -shift));
                    l += s[j][i];
                }
            sum[h] = sum[h] * scale[h] + l;
        }
    }
};
