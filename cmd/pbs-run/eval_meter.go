package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/pbs-run/pbs-run/eval"
)

// logEvery is how often a run that no terminal watches tells how far it is.
const logEvery = 30 * time.Second

// meter shows the progress of an evaluation: a bar on a terminal, elsewhere a line now and then.
type meter struct {
	to    io.Writer
	what  string
	bar   *progressbar.ProgressBar
	start time.Time
	told  time.Time
}

func newMeter(to io.Writer, what string) *meter {
	now := time.Now()
	return &meter{to: to, what: what, start: now, told: now}
}

// show takes the state after a sample.
func (m *meter) show(p eval.Progress) {
	if p.New == 1 {
		m.bar = drawBar(m.to, int64(p.All), progressbar.OptionSetWidth(30))
	}
	spent := time.Since(m.start)
	left := time.Duration(float64(spent) / float64(p.New) * float64(p.All-p.AllDone))
	text := fmt.Sprintf("%s: %s %d/%d, %d failed, ETA %s", m.what, p.Task, p.Done, p.Items, p.Failed, left.Round(time.Second))
	switch {
	case m.bar != nil:
		m.bar.Describe(text)
		_ = m.bar.Set(p.AllDone) // a bar that cannot be drawn spoils nothing
	case time.Since(m.told) >= logEvery:
		m.told = time.Now()
		fmt.Fprintf(m.to, "%s, %d of %d done\n", text, p.AllDone, p.All)
	}
}

func (m *meter) close() {
	if m.bar != nil {
		_ = m.bar.Finish()
	}
}
