// Package cuda is the GPU backend: kernels of our own in src (mma.sync, cp.async: sm_80 and up), cuBLASLt for large matrix products
// where it is installed, gorgonia.org/cu for device, context, memory, streams and modules.
//
// Device, with every operation's arguments, launch geometry and scratch memory, is plain Go over the small interface driver. Two
// things implement that: CUDA (behind the build tag cuda, opened by Open) and, for tests, a machine that runs the same kernel sources on
// the host (package simt). So the conformance suite of kernels/kernelstest proves everything but the driver's own calls without a GPU.
//
// Arithmetic is bf16 with f32 sums. Tensors of other dtypes or alignments than the tensor cores' paths want are packed first; models in
// bf16 never need that.
package cuda
