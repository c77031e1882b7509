package kernels

import "errors"

// ErrInterrupted is what Err and Download return after Interrupt.
var ErrInterrupted = errors.New("interrupted")

// Linear is the weight of a dense layer as one or more row blocks over the same input:
// out = x · [Parts[0].W; Parts[1].W; ...]ᵀ + [biases]. Blocks let q, k and v stay where the checkpoint has them.
type Linear []Part

// Part is one row block of a Linear.
type Part struct {
	W    Tensor // [out, in], F32, BF16 or F16
	Bias Tensor // [out], F32, BF16 or F16; zero Tensor for none
}

// Out is the number of output features of l, In the number of input features.
func (l Linear) Out() int {
	n := 0
	for i := range l {
		n += l[i].W.Rows()
	}
	return n
}
func (l Linear) In() int { return l[0].W.Cols() }

// KV is one layer's keys and values, both [kvHeads, capacity, headDim], after RoPE.
type KV struct{ K, V Tensor }

// Device queues operations in order on one piece of hardware; only Download and Err wait. The first failure sticks and
// is returned there, as in bufio.Writer. Misshapen arguments panic: they are bugs of the caller. Only Alloc allocates.
type Device interface {
	Memory
	Dense
	Sparse
}

// Stepper is a Device that can record the operations of a decode step once and repeat them at other positions.
type Stepper interface {
	// Step queues one decode step: the token id at a position. queue queues its operations, for Embed of that id alone and one row at
	// that position throughout; it may be called or not, as an earlier step of the same key is repeated instead. Steps of one
	// key differ in id and position alone.
	Step(key any, position int, id int32, queue func() error) error
}

// Drawer is a Device that makes random weights in its own memory, in the place of Place.
type Drawer interface {
	Draw(dt DType, dims []int, r Recipe) Tensor
}

// Recipe is how the random values of a tensor come about, so that every device makes the same. Word w, the 8 bytes from 8·w on, comes
// from the random number mix(mix(State + w/RecipeStretch) + (w mod RecipeStretch + 1)·0x9e3779b97f4a7c15) of splitmix64 (Steele, Lea,
// Flood 2014): each element takes as many of its bits as it has itself, from the lowest on, modulo the number of Levels, as its index.
type Recipe struct {
	Levels []byte // little-endian values of the tensor's dtype, a power of two of them; nil for zeros
	State  uint64
}

// RecipeStretch is the words of a tensor that follow from one state.
const RecipeStretch = 1 << 17

// Memory is the life of tensors on a Device.
type Memory interface {
	// Compute is the dtype in which the device wants the inputs of its matrix products and attention (the outputs of
	// RMSNorm, RopeAppend's q, Attend and SwiGLU): F32, or BF16 where products run in bf16 with f32 sums.
	Compute() DType
	// Alloc returns zeroed memory that lives until Close. On failure it returns a zero Tensor, and Err says why.
	Alloc(dt DType, dims ...int) Tensor
	// Place returns host data (a weight) as the device sees it: the same memory on a CPU, a copy on a GPU.
	Place(host Tensor) Tensor
	// Scratch is how many bytes the device's operations on a Plan of shape s work in, which NewPlan allocates.
	Scratch(s PlanShape) int64
	Upload(dst Tensor, src []byte)
	Download(dst []byte, src Tensor) error
	// Interrupt makes queued and running operations end early, from any goroutine. Results are then garbage and Err
	// returns ErrInterrupted until Resume.
	Interrupt()
	Resume()
	Err() error
	Close() error
}

// Dense is what a decoder layer needs. Matrices are [rows, cols]; x and weights are as documented at each method.
type Dense interface {
	// Embed gathers rows: out[i] = table[ids[i]]. out [len(ids), hidden] F32, table [vocab, hidden] F32, BF16 or F16.
	Embed(out, table Tensor, ids []int32)

	// RMSNorm computes out = x / sqrt(mean(x²) + eps) · weight by rows (arXiv 1910.07467, eq. 4), in f32.
	// out [rows, hidden] of dtype Compute() or F32, x [rows, hidden] F32, weight [hidden].
	RMSNorm(out, x, weight Tensor, eps float32)

	// MatMul computes out = x·wᵀ + bias. out [rows, w.Out()] F32, x [rows, w.In()] of dtype Compute().
	MatMul(out, x Tensor, w Linear)

	// MatMulAdd computes out += x·wᵀ + bias: a sublayer's output going straight onto the residual stream [rows, hidden] F32.
	MatMulAdd(out, x Tensor, w Linear)

	// SwiGLU computes out = silu(x·gateᵀ) ⊙ (x·upᵀ) (arXiv 2002.05202, eq. 6) without writing either product to memory.
	// out [rows, gate.Out()] and x [rows, gate.In()] of dtype Compute().
	SwiGLU(out, x Tensor, gate, up Linear)

	// RopeAppend rotates q and k of qkv by their positions (arXiv 2104.09864; halves layout of Hugging Face: element i pairs
	// with i+headDim/2) and stores k and v in kv at positions first, first+1, ...
	// qkv [rows, (heads+2·kvHeads)·headDim] F32; q [rows, heads·headDim] of dtype Compute(), zero Tensor with heads = 0 when
	// only k and v are wanted; rope [positions, headDim] F32 holds cos in its first half and sin in its second.
	RopeAppend(q, qkv, rope Tensor, kv KV, first int)

	// Attend is dense causal attention: query row i stands at position first+i and sees keys 0..first+i; scores are scaled by
	// 1/√headDim; query head h reads kv head h/(heads/kvHeads). One row is decode.
	// q and out [rows, heads·headDim] of dtype Compute(); out may be q itself.
	Attend(out, q Tensor, kv KV, first int)
}
