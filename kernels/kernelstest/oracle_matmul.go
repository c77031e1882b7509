package kernelstest

import "math"

// product is one matrix product as the formula says: sum[i][j] = Σₖ x[i][k]·w[j][k] + bias[j] for the rows of all parts, and
// norm[i][j] = Σₖ |x[i][k]·w[j][k]|, in units of which rounding errors come.
func product(x *Matrix, parts []weightPart) (sum, norm [][]float64) {
	for i := range x.Rows() {
		var s, n []float64
		for p := range parts {
			w := &parts[p].w
			for j := range w.Rows() {
				var a, b float64
				row := w.rows[j]
				for k, v := range x.rows[i] {
					v *= row[k]
					a += v
					b += math.Abs(v)
				}
				if parts[p].bias != nil {
					v := parts[p].bias.Value(0, j)
					a += v
					b += math.Abs(v)
				}
				s, n = append(s, a), append(n, b)
			}
		}
		sum, norm = append(sum, s), append(norm, n)
	}
	return sum, norm
}

// silu is x·sigmoid(x).
func silu(x float64) float64 { return x / (1 + math.Exp(-x)) }
