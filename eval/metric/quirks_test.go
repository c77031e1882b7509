package metric

import (
	"encoding/json"
	"testing"
)

// The wanted values of this file are what the official Python functions returned; the cases are those that the golden
// files lack.

// TestClassHit has lists where the loop over a list that shrinks skips a class.
func TestClassHit(t *testing.T) {
	for _, c := range []struct {
		classes    []string
		prediction string
		want       float64
	}{
		{[]string{"a", "ab", "abc"}, "abc", 0.5},
		{[]string{"a", "b", "c", "abc"}, "abc", 0.5},
		{[]string{"a", "a", "b", "abc"}, "abc", 0.5},
		{[]string{"x", "abc", "x", "a"}, "xabc", 1.0 / 3},
		{[]string{"abc"}, "ab", 0},
		{[]string{"", "abc"}, "abc", 1},
	} {
		if got := classHit(c.prediction, "abc", c.classes); got != c.want {
			t.Errorf("%q of %q: %v, want %v", c.prediction, c.classes, got, c.want)
		}
	}
}

// TestOpenCompassCutsAgain has second answers for which the prediction is cut from its cut form.
func TestOpenCompassCutsAgain(t *testing.T) {
	official, open := NewLongBench(THUDM, 0), NewLongBench(OpenCompass, 0)
	for _, c := range []struct {
		prediction     string
		open, official float64
	}{
		{"掉学福舅-何新三资x加！y州", 0.8181818131818183, 0.9523809473922903},
		{"练得了裉姆特瓦拉嗩.5%跎伲", 0.7777777727777778, 0.9411764656055364},
		{"艾军外弗埃即手舍弯A刻拔成近", 0.749999995, 0.9333333283555556},
	} {
		answers := []string{"。", c.prediction + "的"}
		if got, _ := open.Score("dureader", c.prediction, answers, nil); got != c.open {
			t.Errorf("opencompass %s: %v, want %v", c.prediction, got, c.open)
		}
		if got, _ := official.Score("dureader", c.prediction, answers, nil); got != c.official {
			t.Errorf("thudm %s: %v, want %v", c.prediction, got, c.official)
		}
	}
}

func TestMeanNumPy(t *testing.T) {
	for n, want := range map[int]float64{
		7: 0.38472418670438474, 8: 0.4071782178217822, 9: 0.46534653465346537, 127: 0.4886567396897171, 128: 0.4889387376237624,
		129: 0.49205618236242227, 136: 0.49242865463016894, 137: 0.49483269494832693, 200: 0.49549504950495055,
		300: 0.49399339933993397, 1000: 0.49514851485148514,
	} {
		x := make([]float64, n)
		for i := range x {
			x[i] = float64(i*37%101) / 101
		}
		if got := MeanNumPy(x); got != want {
			t.Errorf("%d: %v, want %v", n, got, want)
		}
	}
}

// TestJoinedPatterns has the two patterns that a missing comma makes one.
func TestJoinedPatterns(t *testing.T) {
	if got := NewLongBench2(OpenCompass).Letter("故B。所以A"); got != "A" {
		t.Errorf("%q, want A", got)
	}
}

// TestSummaryOfSeveral takes the best of the references, as where the label is a list.
func TestSummaryOfSeveral(t *testing.T) {
	got, err := InfiniteBench("longbook_sum_eng", "a b c", json.RawMessage(`["x","a b c d e"]`), "")
	if want := 0.7499999999999999; err != nil || got != want {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// TestUpper has names whose upper case is longer.
func TestUpper(t *testing.T) {
	if got, err := InfiniteBench("longdialogue_qa_eng", "it is weiß.", json.RawMessage(`["WEISS"]`), ""); got != 1 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}
