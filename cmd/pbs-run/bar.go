package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/pbs-run/pbs-run/model"
)

// bar shows a prefill's progress on a terminal; elsewhere it does nothing.
type bar struct {
	b      *progressbar.ProgressBar
	tokens int
	layers int
	start  time.Time
}

func newBar(w io.Writer, tokens, layers int) *bar {
	b := &bar{tokens: tokens, layers: layers, start: time.Now()}
	b.b = drawBar(w, barSteps, progressbar.OptionSetPredictTime(true), progressbar.OptionSetWidth(30))
	return b
}

// drawBar returns a bar on a terminal, nil elsewhere.
func drawBar(w io.Writer, steps int64, options ...progressbar.Option) *progressbar.ProgressBar {
	if !isTerminal(w) {
		return nil
	}
	options = append(options, progressbar.OptionSetWriter(w), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	return progressbar.NewOptions64(steps, options...)
}

// watch has a bar show s's next forward passes, of so many tokens.
func watch(s *model.Session, to io.Writer, tokens, layers int) *bar {
	b := newBar(to, tokens, layers)
	s.OnProgress(b.update)
	return b
}

// barSteps is the resolution of the bar.
const barSteps = 1000

func (b *bar) update(layer int, done float64) {
	if b.b == nil {
		return
	}
	rate := done * float64(b.tokens) / time.Since(b.start).Seconds()
	b.b.Describe(fmt.Sprintf("prefill layer %d/%d, %.0f tokens/s", layer+1, b.layers, rate))
	_ = b.b.Set(int(done * barSteps)) // a bar that cannot be drawn spoils nothing
}

// copied shows how many bytes of the weights are on the device.
func (b *bar) copied(n, total int64) {
	if b.b == nil {
		return
	}
	b.b.Describe(fmt.Sprintf("weights %s of %s", model.GiB(n), model.GiB(total)))
	_ = b.b.Set(int(n * barSteps / max(total, 1)))
}

// close clears the line. It may be called again.
func (b *bar) close() {
	if b.b != nil {
		_ = b.b.Finish()
		b.b = nil
	}
}
