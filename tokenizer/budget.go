package tokenizer

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// gonja bounds neither steps nor memory, and a goroutine cannot be ended from outside. So
// every expression of a template is compiled (compile.go) into one that pays for what it
// reads and makes before it goes on, out of a budget that grows with the messages. A
// template that spends it ends with an error, some seconds at most after it began.
const (
	baseBudget    = 32 << 20 // steps; one is some tens of nanoseconds
	budgetPerByte = 64       // of the messages
	baseValue     = 16 << 20 // bytes of the largest value
	valuePerByte  = 8
	maxNodes      = 200_000 // items in a list or dict, nested ones counted
	maxNesting    = 32      // of lists and dicts
	maxMacroDepth = 64
	turnCost      = 128  // of a loop's turn
	callCost      = 1024 // of a macro call
)

// budget is what one rendering may still spend.
type budget struct {
	left     int
	maxValue int
	depth    int // of macro calls
	err      error
}

// budgetKey names the budget in gonja's context; no template can write such a name.
const budgetKey = "the budget"

func newBudget(inputBytes int) *budget {
	return &budget{
		left:     baseBudget + budgetPerByte*inputBytes,
		maxValue: baseValue + valuePerByte*inputBytes,
	}
}

func budgetOf(env *exec.Environment) *budget {
	b, _ := env.Context.Get(budgetKey)
	return b.(*budget)
}

// spend takes n steps; once it fails it fails for good.
func (b *budget) spend(n int) error {
	if b.left -= n; b.left < 0 {
		b.fail(errors.New("the template runs too long: more steps than the messages justify"))
	}
	return b.err
}

// fail records the first error of a rendering.
func (b *budget) fail(err error) {
	if b.err == nil {
		b.err = err
		b.left = 0
	}
}

// grow checks that n bytes may become one value, before they do, and pays for them.
func (b *budget) grow(n int) error {
	if n < 0 || n > b.maxValue {
		b.fail(fmt.Errorf("the template makes a value of %d bytes, more than the %d the messages justify", n, b.maxValue))
	}
	return b.spend(1 + n/8)
}

// read pays for looking at v.
func (b *budget) read(v *exec.Value) error {
	n := 1
	switch r := resolve(v); r.Kind() {
	case reflect.String:
		n += r.Len() / 8
	case reflect.Slice:
		n += r.Len() / 2
	case reflect.Struct:
		if d, ok := v.Interface().(*exec.Dict); ok {
			n += len(d.Pairs) / 2
		}
	}
	return b.spend(n)
}

// made checks a new value's size and pays for it.
func (b *budget) made(v *exec.Value) error {
	nodes, bytes := 0, 0
	if err := b.weigh(v, 0, &nodes, &bytes); err != nil {
		b.fail(err)
		return b.err
	}
	return b.spend(1 + nodes + min(bytes/8, bytesIfString(v)))
}

func bytesIfString(v *exec.Value) int {
	if r := resolve(v); r.Kind() == reflect.String {
		return r.Len() / 8
	}
	return 0
}

// weigh counts the items of a value and the bytes of its strings. An error in a list is
// an error of the list.
func (b *budget) weigh(v *exec.Value, depth int, nodes, bytes *int) error {
	if v.IsError() {
		return v
	}
	*nodes++
	var items []*exec.Value
	switch r := resolve(v); {
	case r.Kind() == reflect.String:
		*bytes += r.Len()
	case r.Kind() == reflect.Slice:
		for i := range min(r.Len(), maxNodes+1) {
			items = append(items, exec.ToValue(r.Index(i)))
		}
	default:
		if d, ok := v.Interface().(*exec.Dict); ok {
			for _, pair := range d.Pairs {
				items = append(items, pair.Key, pair.Value)
			}
		}
	}
	if depth > maxNesting && len(items) > 0 {
		return fmt.Errorf("the template nests lists deeper than %d", maxNesting)
	}
	for _, item := range items {
		if err := b.weigh(item, depth+1, nodes, bytes); err != nil {
			return err
		}
		if *nodes > maxNodes || *bytes > b.maxValue {
			return errors.New("the template makes a list larger than the messages justify")
		}
	}
	if *bytes > b.maxValue {
		return fmt.Errorf("the template makes a string of %d bytes, more than the %d the messages justify", *bytes, b.maxValue)
	}
	return nil
}

// resolve follows the interfaces and pointers gonja wraps values in.
func resolve(v *exec.Value) reflect.Value {
	r := v.Val
	for r.IsValid() && (r.Kind() == reflect.Interface || r.Kind() == reflect.Pointer) {
		r = r.Elem()
	}
	return r
}

// output is where a template writes; it takes what the budget allows.
type output struct {
	strings.Builder
	budget *budget
}

func (o *output) Write(p []byte) (int, error) { return o.WriteString(string(p)) }

func (o *output) WriteString(s string) (int, error) {
	if o.Len()+len(s) > o.budget.maxValue {
		o.budget.fail(fmt.Errorf("the template writes more than the %d bytes the messages justify", o.budget.maxValue))
	}
	if err := o.budget.spend(1 + len(s)/8); err != nil {
		return 0, err
	}
	return o.Builder.WriteString(s)
}
