package attention

import (
	"fmt"

	"github.com/pbs-run/pbs-run/kernels"
)

// PBSPlus is PBS whose permuted blocks are scored along antidiagonals, as XAttention scores them, and not by their means: the
// variant that arXiv 2510.21270 reports to lose less on retrieval. All but step 3 is as in PBS.
//
// With π the order of the keys, σ the stride and e the start of query block a's segment, per query head:
//
//	A_rc = Σ_t q[rσ+σ-1-t]·k[π(cσ+t)] / (σ√d)      P_r = softmax of A_r over strided keys c < e/σ
//	w_ab = Σ P_rc over the strided rows r of block a and the strided keys c of permuted block b
//
// and p_ab = w_ab / Σ_b w_ab takes the place of the softmax over means. The softmax runs over the strided keys of earlier segments
// only, the candidates: every strided row has the same say, however much of it looks at its own segment, which
// is kept anyway. All candidates are complete segments in the past, so there is no mask and nothing is missing. Neighbours in a
// strided key are neighbours in rank, not in position: each of the σ queries meets one of σ keys of like importance.
//
//	          permuted keys of an earlier segment, σ = 4
//	          most wanted ------> least wanted
//	q0      |  .  .  .  ●  |  .  .  .  ●  | ...
//	q1      |  .  .  ●  .  |  .  .  ●  .  |
//	q2      |  .  ●  .  .  |  .  ●  .  .  |
//	q3      |  ●  .  .  .  |  ●  .  .  .  |
//
// Defaults: those of PBS, and σ 8, which divides B.
//
// The paper does not spell the variant out; what is said here of the softmax is ours.
type PBSPlus struct {
	PBS
	Stride int // tokens
}

func (s *settings) pbsPlus() PBSPlus {
	m := PBSPlus{PBS: s.pbs()}
	m.Stride = s.stride(m.Block)
	return m
}

// String returns all settings.
func (m PBSPlus) String() string { return m.spec("pbs+", fmt.Sprintf("stride=%d,", m.Stride)) }

// Layout is that of PBS, with strides.
func (m PBSPlus) Layout() Layout {
	l := m.PBS.Layout()
	l.Stride = m.Stride
	return l
}

// Choose runs steps 1 to 4.
func (m PBSPlus) Choose(dev kernels.Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	m.permute(dev, p, q, kv)
	dev.SelectStrided(p, q, kv, m.Stride, m.rule())
}

func (m PBSPlus) unpermuted() (Method, bool) {
	permute := m.Permute
	m.Permute = false
	return m, permute
}
