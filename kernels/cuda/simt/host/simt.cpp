#include "simt.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <atomic>
#include <thread>
#include <vector>

namespace simt {

thread_local Thread *self;
thread_local Dim block_index, block_dim, grid_dim;

static Kernel *kernels;

Kernel::Kernel(const char *name, size_t args, void (*run)(const void *)) : name(name), args(args), run(run), next(kernels) { kernels = this; }

// What a fiber waits for.
enum Wait { RUNS, WARP, PRODUCTS, BLOCK, NAMED, PHASE, DONE };

struct Copy {
    void *to;
    const void *from;
    int bytes;
};

// Product is a wgmma that is queued, as one thread gave it.
struct Product {
    float *sums;
    int columns, more;
    bool registers;
    uint32_t a[4];
    Descriptor a_memory, b_memory;
};

// Box is a copy of load_box that has not landed.
struct Box {
    char *to;
    Map map;
    Barrier *barrier;
    int64_t col, row, head;
};

struct Fiber : Thread {
    void *stack = nullptr, *sp = nullptr;
    Wait wait = DONE;
    int named = 0;
    const char *op = nullptr;    // what its warp does together
    uint32_t in[8], out[8];      // operands and results of that
    const void *address = nullptr;
    std::vector<std::vector<Copy>> groups;  // committed copies, the open group last
    std::vector<std::vector<Product>> products;  // likewise
    std::vector<size_t> unshown;                 // chunks of 16 bytes of shared memory that its copies filled since show_wgmma
    size_t left = 0;                             // groups that wgmma_wait lets be
    Barrier *barrier = nullptr;                  // waited for
    int parity = 0;
};

// One core: a block at a time.
struct Core {
    std::vector<Fiber *> fibers;
    void *sp = nullptr;
    char *shared = nullptr;
    size_t shared_bytes = 0;
    const Kernel *kernel = nullptr;
    const void *args = nullptr;
    unsigned threads = 0;
    int reduced = 0, reduction = 0;
    int arrived[16] = {};  // at named barriers, without waiting
    std::vector<bool> hidden;  // chunks that wgmma may not see yet
    std::vector<Box> boxes;
    std::vector<Barrier *> barriers;  // made by the block
    bool backwards = false;
};

static thread_local Core core;
static const size_t stack_bytes = 256 << 10;

[[noreturn]] static void die(const char *what) {
    fprintf(stderr, "simt: kernel %s, block (%u, %u, %u): %s\n", core.kernel->name, block_index.x, block_index.y, block_index.z, what);
    for (unsigned i = 0; i < core.threads && i < 2048; i++) {
        Fiber *f = core.fibers[i];
        if (i == 0 || f->wait != core.fibers[i - 1]->wait || f->op != core.fibers[i - 1]->op)
            fprintf(stderr, "simt: from thread %u on: %s %s\n", i, f->wait == DONE ? "ended" : f->wait == BLOCK ? "at a barrier" : f->wait == NAMED ? "at a named barrier" : f->wait == PHASE ? "at a barrier in shared memory" : f->wait == PRODUCTS ? "waiting for wgmma" : "in", f->wait == WARP ? f->op : "");
    }
    abort();
}

#if defined(__x86_64__)
extern "C" void simt_switch(void **save, void *load);
asm(R"(
.text
.globl simt_switch
.hidden simt_switch
.type simt_switch,@function
simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
#elif defined(__aarch64__)
extern "C" void simt_switch(void **save, void *load);
asm(R"(
.text
.globl simt_switch
.hidden simt_switch
simt_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
#else
#error "simt: write simt_switch for this architecture"
#endif

static Fiber *fiber() { return static_cast<Fiber *>(self); }

static void pause() {
    Fiber *f = fiber();
    simt_switch(&f->sp, core.sp);
}

static void start() {
    core.kernel->run(core.args);
    Fiber *f = fiber();
    f->wait = DONE;
    pause();
    abort();
}

static void prepare(Fiber *f) {
    if (!f->stack) {
        f->stack = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (f->stack == MAP_FAILED) abort();
    }
    // Stacks a power of two apart would share the sets of the caches.
    void **top = reinterpret_cast<void **>(static_cast<char *>(f->stack) + stack_bytes - f->index.x % 31 * 4160);
#if defined(__x86_64__)
    *--top = nullptr;  // so that the stack is aligned as after a call
    *--top = reinterpret_cast<void *>(start);
    for (int i = 0; i < 6; i++) *--top = nullptr;
#else
    top -= 20;
    memset(top, 0, 160);
    top[11] = reinterpret_cast<void *>(start);
#endif
    f->sp = top;
    f->wait = RUNS;
    f->op = nullptr;
    f->groups.assign(1, {});
    f->products.assign(1, {});
    f->unshown.clear();
}

char *shared_memory() { return core.shared; }

void sync_block() {
    fiber()->wait = BLOCK;
    pause();
}

int sync_block_or(int value) {
    core.reduction |= value;
    sync_block();
    int r = core.reduced;
    sync_block();
    return r;
}

void sync_named(int barrier, int threads) {
    Fiber *f = fiber();
    f->named = barrier << 16 | threads;
    f->wait = NAMED;
    pause();
}

void arrive_named(int barrier, int threads) { core.arrived[barrier]++; }

void barrier_init(Barrier *b, int arrivals) {
    *b = {static_cast<uint16_t>(arrivals), static_cast<uint16_t>(arrivals), 0, 0};
    core.barriers.push_back(b);
}

static void end_phase(Barrier *b) {
    if (b->missing == 0 && b->bytes == 0) b->phase ^= 1, b->missing = b->count;
}

void barrier_arrive(Barrier *b, int bytes) {
    if (b->missing == 0) die("more arrivals at a barrier than it counts");
    b->bytes += static_cast<uint32_t>(bytes), b->missing--;
    end_phase(b);
}

void barrier_wait(Barrier *b, int parity) {
    Fiber *f = fiber();
    f->barrier = b, f->parity = parity, f->wait = PHASE;
    pause();
}

// land copies a box, rows of 128 bytes under the 128-byte swizzle.
static void land(const Box &x) {
    const Map &m = x.map;
    if (m.box[0] != 64 || m.box[2] != 1 || reinterpret_cast<uintptr_t>(x.to) % 1024) die("a box of another shape, or a misaligned one");
    for (int64_t r = 0; r < m.box[1]; r++)
        for (int64_t c = 0; c < 64; c++) {
            bool there = x.col + c < static_cast<int64_t>(m.dims[0]) && x.row + r >= 0 && x.row + r < static_cast<int64_t>(m.dims[1]) && x.head < static_cast<int64_t>(m.dims[2]);
            uint16_t v = there ? m.base[(x.head * static_cast<int64_t>(m.strides[1]) + (x.row + r) * static_cast<int64_t>(m.strides[0])) / 2 + x.col + c] : 0;
            memcpy(x.to + r * 128 + ((c / 8) ^ (r % 8)) * 16 + c % 8 * 2, &v, 2);
        }
    uint32_t bytes = m.box[1] * 128;
    if (x.barrier->bytes < bytes) die("a copy of more bytes than its barrier expects");
    x.barrier->bytes -= bytes;
    end_phase(x.barrier);
}

void load_box(void *to, const void *map, Barrier *b, int col, int row, int head) {
    Box x = {static_cast<char *>(to), {}, b, col, row, head};
    memcpy(&x.map, map, sizeof x.map);
    if (core.backwards) land(x);
    else core.boxes.push_back(x);
}

// phase_ended tells whether f may go on; it lands what f waits for.
static bool phase_ended(const Fiber *f) {
    Barrier *b = f->barrier;
    if (static_cast<int>(b->phase) == f->parity && b->missing == 0)
        for (size_t i = 0; i < core.boxes.size();) {
            Box x = core.boxes[i];
            if (x.barrier != b) {
                i++;
                continue;
            }
            core.boxes.erase(core.boxes.begin() + static_cast<long>(i));
            land(x);
        }
    return static_cast<int>(b->phase) != f->parity;
}

static void together(const char *op) {
    Fiber *f = fiber();
    f->op = op;
    f->wait = WARP;
    pause();
}

void sync_warp() { together("sync_warp"); }

uint32_t shuffle(uint32_t value, uint32_t lane) {
    Fiber *f = fiber();
    f->in[0] = value, f->in[1] = lane;
    together("shuffle");
    return f->out[0];
}

uint32_t ballot(bool value) {
    fiber()->in[0] = value;
    together("ballot");
    return fiber()->out[0];
}

void ldmatrix(uint32_t *r, const void *row, bool transposed) {
    Fiber *f = fiber();
    f->address = row;
    together(transposed ? "ldmatrix.trans" : "ldmatrix");
    memcpy(r, f->out, 16);
}

void mma_bf16(float *c, const uint32_t *a, uint32_t b0, uint32_t b1) {
    Fiber *f = fiber();
    memcpy(f->in, a, 16);
    f->in[4] = b0, f->in[5] = b1;
    memcpy(f->out, c, 16);
    together("mma");
    memcpy(c, f->out, 16);
}

void wgmma_queue(float *d, int n, const uint32_t *a, Descriptor am, Descriptor bm, int more) {
    Product p = {d, n, more, a != nullptr, {}, am, bm};
    if (a) memcpy(p.a, a, 16);
    fiber()->products.back().push_back(p);
}

void wgmma_commit() { fiber()->products.emplace_back(); }

void wgmma_wait(int pending) {
    fiber()->left = static_cast<size_t>(pending);
    fiber()->wait = PRODUCTS;
    pause();
}

void copy_async(void *shared, const void *global, int bytes) {
    if (reinterpret_cast<uintptr_t>(shared) % 16 || (bytes && reinterpret_cast<uintptr_t>(global) % 16)) die("cp.async of a misaligned address");
    fiber()->groups.back().push_back({shared, global, bytes});
}

void copy_commit() { fiber()->groups.emplace_back(); }

void copy_wait(int pending) {
    auto &groups = fiber()->groups;
    while (static_cast<int>(groups.size()) - 1 > pending) {
        for (const Copy &c : groups.front()) {
            memset(c.to, 0, 16);
            if (c.bytes) memcpy(c.to, c.from, c.bytes);
            size_t chunk = static_cast<size_t>(static_cast<char *>(c.to) - core.shared) / 16;
            core.hidden[chunk] = true;
            fiber()->unshown.push_back(chunk);
        }
        groups.erase(groups.begin());
    }
}

void show_wgmma() {
    for (size_t chunk : fiber()->unshown) core.hidden[chunk] = false;
    fiber()->unshown.clear();
}

// plus adds to a sum of f32 as tensor cores do: bits that do not fit are cut, not rounded (Fasi, Higham, Mikaitis, Pranesh 2021). After eight
// products here, as on sm_80, for mma.sync, and after 16 for wgmma.
static float plus(float sum, float x) {
    double exact = static_cast<double>(sum) + static_cast<double>(x);
    float f = static_cast<float>(exact);
    if (isinf(f) || !(fabs(static_cast<double>(f)) > fabs(exact))) return f;
    uint32_t u;
    memcpy(&u, &f, 4);
    u--;
    memcpy(&f, &u, 4);
    return f;
}

static float widen(uint32_t bf16) {
    uint32_t u = bf16 << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

// Operands of m16n8k16: lane l holds of A rows l/4 and l/4+8, columns 2(l%4) and 8 further; of B column l/4, rows 2(l%4) and 8 further;
// of C rows l/4 and l/4+8, columns 2(l%4).
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("avx2", "default")))
#endif
static void run_mma(Fiber **w) {
    float a[16][16], b[16][8];
    for (int l = 0; l < 32; l++) {
        int g = l / 4, t = l % 4 * 2;
        for (int r = 0; r < 4; r++)
            for (int i = 0; i < 2; i++) a[g + r % 2 * 8][t + r / 2 * 8 + i] = widen(w[l]->in[r] >> 16 * i & 0xffff);
        for (int r = 0; r < 2; r++)
            for (int i = 0; i < 2; i++) b[t + r * 8 + i][g] = widen(w[l]->in[4 + r] >> 16 * i & 0xffff);
    }
    float c[2][16][8] = {};
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++) c[k / 8][i][j] += a[i][k] * b[k][j];
    for (int l = 0; l < 32; l++) {
        float x[4];
        memcpy(x, w[l]->out, 16);
        for (int half = 0; half < 2; half++)
            for (int r = 0; r < 4; r++) x[r] = plus(x[r], c[half][l / 4 + r / 2 * 8][l % 4 * 2 + r % 2]);
        memcpy(w[l]->out, x, 16);
    }
}

// read is the element at an address under the 128-byte swizzle.
static float read(const char *at) {
    uintptr_t p = reinterpret_cast<uintptr_t>(at);
    p ^= (p >> 7 & 7) << 4;
    if (p % 16 == 0 && core.hidden[(p - reinterpret_cast<uintptr_t>(core.shared)) / 16]) die("wgmma of what a thread copied and has not shown it");
    uint16_t h;
    memcpy(&h, reinterpret_cast<const void *>(p), 2);
    return widen(h);
}

// run_wgmma computes the k-th product of the oldest group.
static void run_wgmma(Fiber **g, size_t k0) {
    static thread_local float a[64][16], b[16][256], c[64][256];
    auto of = [&](int i) -> const Product & { return g[i]->products[0][k0]; };
    const Product &p = of(0);
    int n = p.columns;
    for (int i = 1; i < 128; i++)
        if (of(i).columns != n || of(i).registers != p.registers || of(i).more != p.more || of(i).a_memory.start != p.a_memory.start || of(i).b_memory.start != p.b_memory.start)
            die("warps of a warpgroup do different things");
    for (int r = 0; r < 64; r++)
        for (int k = 0; k < 16; k++) {
            if (p.registers) a[r][k] = widen(of(r / 16 * 32 + r % 8 * 4 + k % 8 / 2).a[r % 16 / 8 + k / 8 * 2] >> k % 2 * 16 & 0xffff);
            else a[r][k] = read(p.a_memory.start + r / 8 * p.a_memory.rows_apart + r % 8 * 128 + k * 2);
        }
    const Descriptor &m = p.b_memory;
    for (int k = 0; k < 16; k++)
        for (int j = 0; j < n; j++)
            b[k][j] = p.registers ? read(m.start + j / 64 * m.apart + k / 8 * m.rows_apart + k % 8 * 128 + j % 64 * 2) : read(m.start + j / 8 * m.rows_apart + j % 8 * 128 + k * 2);
    memset(c, 0, sizeof c);
    for (int r = 0; r < 64; r++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < n; j++) c[r][j] += a[r][k] * b[k][j];
    for (int i = 0; i < 128; i++)
        for (int t = 0; t < n / 8; t++)
            for (int e = 0; e < 4; e++) {
                float *d = &of(i).sums[t * 4 + e];
                *d = plus(p.more ? *d : 0, c[i / 32 * 16 + i % 32 / 4 + e / 2 * 8][t * 8 + i % 4 * 2 + e % 2]);
            }
}

// run_products computes what a warpgroup waits for.
static void run_products(Fiber **g) {
    for (int i = 1; i < 128; i++)
        if (g[i]->products.size() != g[0]->products.size() || g[i]->left != g[0]->left || g[i]->products[0].size() != g[0]->products[0].size())
            die("warps of a warpgroup do different things");
    while (g[0]->products.size() - 1 > g[0]->left) {
        for (size_t k = 0; k < g[0]->products[0].size(); k++) run_wgmma(g, k);
        for (int i = 0; i < 128; i++) g[i]->products.erase(g[i]->products.begin());
    }
    for (int i = 0; i < 128; i++) g[i]->wait = RUNS;
}

// Lanes 8m..8m+7 give the rows of matrix m; lane l gets row l/4, columns 2(l%4), of each, or of its transpose.
static void run_ldmatrix(Fiber **w, bool transposed) {
    uint16_t m[4][8][8];
    for (int l = 0; l < 32; l++) {
        if (reinterpret_cast<uintptr_t>(w[l]->address) % 16) die("ldmatrix of a misaligned row");
        memcpy(m[l / 8][l % 8], w[l]->address, 16);
    }
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            int r = l / 4, c = l % 4 * 2;
            w[l]->out[i] = transposed ? m[i][c][r] | static_cast<uint32_t>(m[i][c + 1][r]) << 16 : m[i][r][c] | static_cast<uint32_t>(m[i][r][c + 1]) << 16;
        }
}

static void run_warp(Fiber **w, unsigned n) {
    const char *op = w[0]->op;
    for (unsigned l = 1; l < n; l++)
        if (w[l]->op != op && strcmp(w[l]->op, op)) die("threads of a warp do different things");
    if (!strcmp(op, "mma")) {
        run_mma(w);
    } else if (!strcmp(op, "ldmatrix")) {
        run_ldmatrix(w, false);
    } else if (!strcmp(op, "ldmatrix.trans")) {
        run_ldmatrix(w, true);
    } else if (!strcmp(op, "shuffle")) {
        for (unsigned l = 0; l < n; l++) w[l]->out[0] = w[w[l]->in[1] % n]->in[0];
    } else if (!strcmp(op, "ballot")) {
        uint32_t bits = 0;
        for (unsigned l = 0; l < n; l++) bits |= (w[l]->in[0] != 0u) << l;
        for (unsigned l = 0; l < n; l++) w[l]->out[0] = bits;
    }
    for (unsigned l = 0; l < n; l++) w[l]->wait = RUNS;
}

// run_threads lets the threads of a warp run until they can no more, and tells whether any did.
static bool run_threads(Fiber **w, unsigned n, bool backwards) {
    bool any = false;
    for (;;) {
        unsigned ran = 0, ended = 0, meet = 0;
        for (unsigned i = 0; i < n; i++) {
            Fiber *f = w[backwards ? n - 1 - i : i];
            if (f->wait == RUNS) {
                self = f;
                simt_switch(&core.sp, f->sp);
                ran++;
            }
        }
        for (unsigned i = 0; i < n; i++) ended += w[i]->wait == DONE, meet += w[i]->wait == WARP;
        any = any || ran;
        if (meet == n) run_warp(w, n), any = true;
        else if (meet > 0 && meet + ended == n) die("a warp does something together after some of its threads ended");
        else if (ran == 0) return any;
    }
}

static void run_block(bool backwards) {
    unsigned n = core.threads, warps = (n + 31) / 32;
    while (core.fibers.size() < n) core.fibers.push_back(new Fiber);
    memset(core.shared, 0xff, core.shared_bytes);
    core.reduction = core.reduced = 0;
    core.backwards = backwards;
    core.hidden.assign(core.shared_bytes / 16 + 1, false);
    core.boxes.clear();
    core.barriers.clear();
    memset(core.arrived, 0, sizeof core.arrived);
    for (unsigned i = 0; i < n; i++) {
        Fiber *f = core.fibers[i];
        f->index = {i, 0, 0};
        f->lane = i % 32;
        prepare(f);
    }
    for (;;) {
        bool any = false;
        for (unsigned w = 0; w < warps; w++) {
            unsigned at = (backwards ? warps - 1 - w : w) * 32;
            any |= run_threads(&core.fibers[at], n - at < 32 ? n - at : 32, backwards);
        }
        for (unsigned at = 0; at + 128 <= n; at += 128) {
            unsigned queued = 0;
            for (unsigned i = 0; i < 128; i++) queued += core.fibers[at + i]->wait == PRODUCTS;
            if (queued == 128) run_products(&core.fibers[at]), any = true;
        }
        unsigned ended = 0, meet = 0;
        for (unsigned i = 0; i < n; i++) {
            ended += core.fibers[i]->wait == DONE, meet += core.fibers[i]->wait == BLOCK;
            if (core.fibers[i]->wait == PHASE && phase_ended(core.fibers[i])) core.fibers[i]->wait = RUNS, any = true;
            if (core.fibers[i]->wait != NAMED) continue;
            int want = core.fibers[i]->named, found = 0;
            for (unsigned j = 0; j < n; j++) found += core.fibers[j]->wait == NAMED && core.fibers[j]->named == want;
            int &arrived = core.arrived[want >> 16];
            if (found + arrived < (want & 0xffff)) continue;
            if (found + arrived > (want & 0xffff)) die("more threads at a named barrier than it counts");
            arrived = 0;
            for (unsigned j = 0; j < n; j++)
                if (core.fibers[j]->wait == NAMED && core.fibers[j]->named == want) core.fibers[j]->wait = RUNS;
            any = true;
        }
        if (ended == n) break;
        if (meet > 0 && meet + ended == n) {
            core.reduced = core.reduction, core.reduction = 0;
            for (unsigned i = 0; i < n; i++)
                if (core.fibers[i]->wait == BLOCK) core.fibers[i]->wait = RUNS;
        } else if (!any) {
            die("nothing can go on");
        }
    }
    for (unsigned i = 0; i < n; i++)
        for (const auto &g : core.fibers[i]->groups)
            for (const Copy &c : g)
                if (c.bytes) die("a thread ends with copies that nobody waited for");
    if (!core.boxes.empty()) die("a block ends with boxes that nobody waited for");
    for (const Barrier *b : core.barriers)
        if (b->missing != b->count || b->bytes) die("a block ends amid a phase of a barrier: it counts other arrivals than there are");
}

}  // namespace simt

using namespace simt;

// simt_kernel is the kernel of that name, or NULL; simt_args is how many bytes of arguments it takes.
extern "C" const void *simt_kernel(const char *name) {
    for (const Kernel *k = kernels; k; k = k->next)
        if (!strcmp(k->name, name)) return k;
    return nullptr;
}

extern "C" size_t simt_args(const void *kernel) { return static_cast<const Kernel *>(kernel)->args; }

// simt_launch runs a grid, its blocks over the host's threads, and returns when all is done.
extern "C" void simt_launch(const void *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned threads, unsigned shared, const void *args,
                            int cores, int backwards) {
    std::atomic<uint64_t> next{0};
    uint64_t blocks = static_cast<uint64_t>(gx) * gy * gz;
    auto work = [&] {
        core.kernel = static_cast<const Kernel *>(kernel);
        core.args = args;
        core.threads = threads;
        if (core.shared_bytes < shared || !core.shared) {
            free(core.shared);
            core.shared = static_cast<char *>(aligned_alloc(1024, (shared + 1024) / 1024 * 1024));
        }
        core.shared_bytes = shared;
        block_dim = {threads, 1, 1};
        grid_dim = {gx, gy, gz};
        for (uint64_t i = next++; i < blocks; i = next++) {
            uint64_t b = backwards ? blocks - 1 - i : i;
            block_index = {static_cast<unsigned>(b % gx), static_cast<unsigned>(b / gx % gy), static_cast<unsigned>(b / gx / gy)};
            run_block(backwards);
        }
    };
    if (cores <= 1 || blocks == 1) return work();
    std::vector<std::thread> pool;
    for (int i = 0; i < cores; i++) pool.emplace_back([&] {
        work();
        for (Fiber *f : core.fibers) {
            munmap(f->stack, stack_bytes);
            delete f;
        }
        core.fibers.clear();
        free(core.shared);
        core.shared = nullptr;
    });
    for (auto &t : pool) t.join();
}

// simt_alloc maps memory whose end is the end of a page that nothing follows: a kernel that reads past it faults.
extern "C" void *simt_alloc(size_t bytes) {
    size_t page = 4096, body = (bytes + page - 1) / page * page;
    char *p = static_cast<char *>(mmap(nullptr, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (p == MAP_FAILED) return nullptr;
    mprotect(p + body, page, PROT_NONE);
    return p + body - (bytes + 255) / 256 * 256;
}

extern "C" void simt_free(void *at, size_t bytes) {
    size_t page = 4096, body = (bytes + page - 1) / page * page;
    munmap(static_cast<char *>(at) + (bytes + 255) / 256 * 256 - body, body + page);
}
