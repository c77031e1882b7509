package kernels

// Plan is one layer's block-sparse attention over the prefill at hand: the order of the keys inside their segments and the
// blocks of keys that each block of queries attends to, both for every query head (arXiv 2510.21270). It is
// allocated once per session, filled anew in every layer, and never leaves the device during a prefill.
//
// Positions are absolute: block i holds positions [i·Block, (i+1)·Block), of queries as of keys, and lies in segment
// i·Block/Segment. Queries stand at positions First..First+Rows-1 and may see keys 0..First+Rows-1.
type Plan struct {
	Block   int // positions of a block
	Segment int // positions of a segment, a multiple of Block
	First   int // position of the first query: how many keys the cache held before
	Rows    int // queries

	Dense    bool   // the method fell back to dense attention: nothing else here is up to date
	Permuted bool   // whether keys are taken in the order of Perm
	Rank     Tensor // [heads, capacity] F32: what SortKeys sorts by; for every key of a complete segment
	Perm     Tensor // [heads, capacity] U16: Perm[h][p] is the key at place p, counted from the start of p's segment
	QMean    Tensor // [heads, query blocks, headDim] F32: sums of a block's queries over Block
	KMean    Tensor // [heads, key blocks, headDim] F32: sums of a block's keys, in their order, over Block
	Keep     Tensor // [heads, query blocks, words] U64: bit j of row i: query block FirstBlock()+i attends to key block j
	Kept     Tensor // [heads, query blocks] U32: how many blocks j <= i row i keeps

	Striped   bool   // queries see the keys of Columns too
	Slash     Tensor // [heads, capacity] F32, of a shape with Lines: as Rank by distance; place x is that of Keys()-1-x positions
	Columns   Tensor // [heads, words] U64, of a shape with Lines: bit j: every query may see key j, whatever Keep says
	Diagonals Tensor // [heads, words] U64, of a shape with Lines: bit d: the blocks that hold pairs d positions apart are in Keep

	Scratch Tensor // [bytes/4] F32: what the device's operations on the plan work in, for none to allocate anything

	shape PlanShape
}

// PlanShape is what a Plan's memory depends on.
type PlanShape struct {
	Heads, KVHeads int
	HeadDim        int
	Capacity       int // most keys
	Rows           int // most queries
	Block, Segment int
	Stride         int  // of SelectStrided; 0 where it is not called
	Lines          bool // Slash, Columns and Diagonals are needed
}

// MaxSegment is the longest segment: places in it are 16 bits.
const MaxSegment = 1 << 16

// NewPlan allocates a plan on dev; failures come from dev.Err.
func NewPlan(dev Memory, s PlanShape) *Plan {
	s.check()
	q, k := s.blocks()
	p := &Plan{
		Block: s.Block, Segment: s.Segment, shape: s,
		Rank:  dev.Alloc(F32, s.Heads, s.Capacity),
		Perm:  dev.Alloc(U16, s.Heads, s.Capacity),
		QMean: dev.Alloc(F32, s.Heads, q, s.HeadDim),
		KMean: dev.Alloc(F32, s.Heads, k, s.HeadDim),
		Keep:  dev.Alloc(U64, s.Heads, q, (k+63)/64),
		Kept:  dev.Alloc(U32, s.Heads, q),
	}
	if s.Lines {
		p.Slash = dev.Alloc(F32, s.Heads, s.Capacity)
		p.Columns = dev.Alloc(U64, s.Heads, (s.Capacity+63)/64)
		p.Diagonals = dev.Alloc(U64, s.Heads, (s.Capacity+63)/64)
	}
	if n := dev.Scratch(s); n > 0 {
		p.Scratch = dev.Alloc(F32, int((n+3)/4))
	}
	return p
}

// Bytes is the memory that NewPlan takes beside the device's Scratch.
func (s PlanShape) Bytes() int64 {
	q, k := s.blocks()
	perHead := 6*int64(s.Capacity) + 4*int64(s.HeadDim)*int64(q+k) + 8*int64(q)*int64((k+63)/64) + 4*int64(q)
	if s.Lines {
		perHead += 4*int64(s.Capacity) + 16*int64((s.Capacity+63)/64)
	}
	return int64(s.Heads) * perHead
}

// blocks is how many query and key blocks there are at most; queries may start and end inside a block.
func (s PlanShape) blocks() (queries, keys int) {
	keys = (s.Capacity + s.Block - 1) / s.Block
	return min(keys, (s.Rows+s.Block-1)/s.Block+1), keys
}

// Begin sets the queries at hand: rows of them, the first at position first.
func (p *Plan) Begin(first, rows int) {
	p.First, p.Rows, p.Dense, p.Permuted, p.Striped = first, rows, false, false, false
}

// Shape is what the plan was made for.
func (p *Plan) Shape() PlanShape { return p.shape }

// Keys is the number of keys, KeyBlocks that of their blocks.
func (p *Plan) Keys() int      { return p.First + p.Rows }
func (p *Plan) KeyBlocks() int { return (p.Keys() + p.Block - 1) / p.Block }

// FirstBlock is the block of the first query, QueryBlocks how many blocks hold queries.
func (p *Plan) FirstBlock() int  { return p.First / p.Block }
func (p *Plan) QueryBlocks() int { return p.KeyBlocks() - p.FirstBlock() }

// Sorted is the number of keys in complete segments, which Perm orders; the others stand in their own order.
func (p *Plan) Sorted() int { return p.Keys() / p.Segment * p.Segment }

// Selection is the rule by which SelectBlocks keeps blocks.
type Selection struct {
	// Tau is the probability mass to keep: per query block the fewest key blocks, likeliest first and the earlier among equals,
	// that reach it, the one that crosses it included. If none does, as where scores are NaN, or Tau is at least 1, all are kept.
	Tau float64
	// Own makes the query block's own block, and everything before it, a candidate; otherwise candidates are the blocks
	// of earlier segments.
	Own bool
	// KeepFirst always keeps the block that holds key 0.
	KeepFirst bool
	// Counted makes the blocks that a row keeps always, the first and its own, count towards Tau before all others.
	Counted bool
	// Surplus is a query block. Those before it keep the heaviest of the blocks left over too, and of the blocks that a row keeps
	// always only its own counts: a quirk of a published code.
	Surplus int
	// Last is how many of the plan's last query blocks keep all, whatever the rest of the rule says. The last one may hold few queries.
	Last int
	// Density, where it is above 0, overrides Tau: as many candidates are kept as bring the row's share of causal blocks
	// nearest to it. It is for measuring time at a given density.
	Density float64
}

// Lines is how many single columns and diagonals of the attention matrix SelectLines keeps. A query at i sees
// key j on column j, and key i-d on diagonal d.
type Lines struct {
	Columns, Diagonals int // those with the most mass; all where there are not as many
	Sink, Recent       int // of them the first columns and the nearest diagonals, which are kept in any case
}

// Flex is the rule by which SelectFlex keeps blocks (arXiv 2502.20766).
type Flex struct {
	Gamma float64 // share of the mass to keep
	Tau   float64 // heads whose pooled scores come nearer than this to the true ones choose by them
	Least int     // blocks of keys, and diagonals of blocks, that every head keeps at least
}

// Span is a range of query rows [Lo, Hi), counted from Plan.First.
type Span struct{ Lo, Hi int }

// Sparse is what the sparse methods need. q and out are [Plan.Rows, heads·headDim] of dtype Compute(); kv holds Plan.Keys()
// keys. Scores are computed with f32 sums.
type Sparse interface {
	// RankKeys fills p.Rank: the mean, over the last min(Block, Rows) queries, of their softmax over all keys of complete
	// segments, without a causal mask (arXiv 2510.21270; the missing mask is the published code's).
	RankKeys(p *Plan, q Tensor, kv KV)

	// SortKeys fills p.Perm: in each complete segment the keys by descending p.Rank; equal keys keep their order.
	SortKeys(p *Plan)

	// PoolBlocks fills p.QMean and p.KMean, which divide by Block even where a block is not full.
	PoolBlocks(p *Plan, q Tensor, kv KV)

	// SelectBlocks fills p.Keep and p.Kept for all query blocks: from the softmax, over a row's candidates, of QMean·KMeanᵀ/√headDim
	// by rule. A row always keeps the blocks of its own segment.
	SelectBlocks(p *Plan, rule Selection)

	// SelectStrided is SelectBlocks with blocks scored along antidiagonals (arXiv 2503.16428), from all queries and keys and no
	// means. With A_rc = Σ_t q[r·stride+stride-1-t]·k[c·stride+t] / (stride·√headDim), where k is in the plan's order and what
	// is not there is 0, and P_r the softmax of A_r over strided keys c <= r for rule.Own, otherwise over those
	// of earlier segments, a block's weight is the sum of P over the strided rows of the query block that hold a query and the
	// strided keys of the key block. stride divides Block.
	SelectStrided(p *Plan, q Tensor, kv KV, stride int, rule Selection)

	// RankLines fills p.Rank for all keys and p.Slash for all distances: the causal softmax of the last queries' scores times
	// scale, summed by key and by distance, over their number, which is at most Block.
	RankLines(p *Plan, q Tensor, kv KV, last int, scale float32)

	// SelectLines fills p.Columns and p.Diagonals by p.Rank and p.Slash, of equal ones the first in these, sets p.Striped, and fills
	// p.Keep for all query blocks with the blocks that a diagonal passes through. p.Kept counts these and, rounded up, how many
	// blocks the columns outside them make. Where a mass is NaN a head keeps all.
	SelectLines(p *Plan, lines Lines)

	// SelectFlex fills p.Keep and p.Kept for all query blocks, from p.Rank and p.Slash of the last queries and the means of all blocks,
	// in which it corrects that of the last key block if it is not full. Per head, the budget of key blocks is a 128th of the
	// fewest keys whose Rank reaches Gamma, plus one, that of diagonals likewise by Slash, both at least Least; block 0 and the main
	// diagonal come first, then those of the largest sums, where distance place x belongs to block diagonal KeyBlocks()-1-x/Block. A head
	// is query-aware where √JS(softmax of the last queries' mean with KMean, Rank by blocks) < Tau: its budgets are Least, and
	// it also keeps, of all pairs of blocks weighed by the causal softmax of QMean·KMeanᵀ/√headDim, the heaviest that together stay within
	// Gamma of the whole. A Gamma of 1 keeps all, and so does a Rank that holds a NaN.
	SelectFlex(p *Plan, q Tensor, last int, rule Flex)

	// AttendBlocks is Attend where each query sees, of the keys it may see, those in the blocks that p keeps for it and, where p is
	// Striped, those of p.Columns, for the rows of the spans, which ascend and do not overlap; an empty one stands for no query. A
	// query's own segment counts as kept whole, whatever Keep says. out may be q itself.
	AttendBlocks(out, q Tensor, kv KV, p *Plan, spans []Span)
}
