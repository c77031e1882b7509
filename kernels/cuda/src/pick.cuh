// The fewest heaviest of n weights whose sum, or number, reaches a mass, without sorting them. For weights that are not negative the
// order of their bits is that of the numbers: four passes over bytes of the bits find the lightest weight needed.
//
// Sums do not depend on the order of threads: weights that fall into one bucket share all but 24 bits of exponent and fraction, so
// that up to 2^27 of them add up exactly in a double.
#pragma once

#include "common.cuh"

struct Pick {
    double mass[256];
    double missing;
    int64_t take;  // how many weights of exactly the bits `found` are needed
    uint32_t found;
    uint32_t counts[32];
    float floats[32];
};

static_assert(sizeof(Pick) <= 2328, "pickBytes in ../choose.go");

// pick_heaviest sets the bits of the weights picked, of equal ones the first. weight(i) is weight i. An infinite mass takes all.
// All threads of a block call it; the bits are there after it.
template <class Weight> DEVICE void pick_heaviest(Pick &p, Weight weight, int64_t n, double mass, bool count, uint32_t *bits) {
    sync_block();
    if (n == 0 || mass <= 0) return;
    bool all = !(mass < static_cast<double>(INF));
    if (thread() == 0) p.missing = mass, p.found = 0, p.take = n;
    for (int shift = 24; !all && shift >= 0; shift -= 8) {
        for (int b = thread(); b < 256; b += threads()) p.mass[b] = 0;
        sync_block();
        uint32_t found = p.found;
        for (int64_t i = thread(); i < n; i += threads()) {
            float w = weight(i);
            uint32_t u = bits_of(w);
            if (shift == 24 || u >> (shift + 8) == found) atomic_add(&p.mass[u >> shift & 255], count ? 1.0 : static_cast<double>(w));
        }
        sync_block();
        if (thread() == 0) {
            double missing = p.missing;
            int b = 255;
            for (; b > 0 && p.mass[b] < missing; b--) missing -= p.mass[b];
            p.missing = missing;
            p.found = found << 8 | static_cast<uint32_t>(b);
            if (shift == 0 && missing < p.mass[b]) {
                double w = count ? 1 : static_cast<double>(float_of(p.found));
                int64_t take = 0;
                for (; missing > 0; missing -= w) take++;
                p.take = take;
            }
        }
        sync_block();
    }
    sync_block();
    uint32_t least = all ? 0 : p.found;
    int64_t take = p.take, ties = 0;
    for (int64_t base = 0; base < n; base += threads()) {
        int64_t i = base + thread();
        uint32_t u = i < n ? bits_of(weight(i)) : 0;
        bool tie = i < n && !all && u == least;
        uint32_t same = vote(tie);
        if (lane() == 0) p.counts[warp()] = static_cast<uint32_t>(popcount(same));
        sync_block();
        int64_t before = ties + popcount(same & ((1u << lane()) - 1));
        for (int w = 0; w < threads() / 32; w++) {
            if (w < warp()) before += p.counts[w];
            ties += p.counts[w];
        }
        uint32_t word = vote(i < n && (all || u > least || (tie && before < take)));
        if (lane() == 0 && i < n) bits[i / 32] |= word;
        sync_block();
    }
}
