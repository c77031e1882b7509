"""rivals.py TOKENS...: TFLOP/s of PyTorch's causal attention (32 heads, 8 key heads, head dim 128, bf16) by each of its backends, and of a
large matrix product, for the table of bench attention. Counts half of the square, as that does; the median of 9 runs, by events."""

import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def seconds(f):
    for _ in range(3):
        f()
    times = []
    for _ in range(9):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        f()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(times)


def normal(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


print(torch.cuda.get_device_name(), "PyTorch", torch.__version__, "cuDNN", torch.backends.cudnn.version())
a, b = normal(8192, 8192), normal(8192, 8192)
print(f"matmul 8192: {2e-12 * 8192**3 / seconds(lambda: a @ b):.0f} TFLOP/s")
for n in map(int, sys.argv[1:]):
    q, k, v = normal(1, 32, n, 128), normal(1, 8, n, 128), normal(1, 8, n, 128)
    for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        try:
            with sdpa_kernel(backend):
                t = seconds(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))
            print(f"{n} tokens, {backend.name}: {1e3 * t:.2f} ms, {2e-12 * n * (n + 1) * 32 * 128 / t:.0f} TFLOP/s")
        except RuntimeError as error:
            print(f"{n} tokens, {backend.name}: {str(error).splitlines()[0]}")
