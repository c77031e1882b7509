package tokenizer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/exec"
)

// gonjaFilters are those of gonja's filters that chat templates use and whose result is not
// larger than what goes in.
var gonjaFilters = []string{
	"abs", "capitalize", "d", "default", "dictsort", "float", "int", "lower", "map", "max", "min",
	"reject", "rejectattr", "select", "selectattr", "sort", "sum", "title", "unique", "upper",
}

// ownFilters do what Jinja2's do where gonja's differ or have no bounds.
var ownFilters = map[string]operation{
	"trim": trim,
	"join": func(b *budget, in *exec.Value, p *exec.VarArgs) (*exec.Value, error) {
		return join(b, in, argument(p, 0, "d", ""))
	},
	"replace": func(b *budget, in *exec.Value, p *exec.VarArgs) (*exec.Value, error) { return replace(b, in, p.Args) },
	"tojson":  toJSON,
	"indent":  indent,
	"items":   dictItems,
	"list":    iterate,
	"length":  length,
	"count":   length,
	"first":   func(b *budget, in *exec.Value, _ *exec.VarArgs) (*exec.Value, error) { return end(b, in, 0) },
	"last":    func(b *budget, in *exec.Value, _ *exec.VarArgs) (*exec.Value, error) { return end(b, in, -1) },
	"reverse": reverse,
	"string":  asText,
	"safe":    unchanged,
}

func isFilter(name string) bool {
	return ownFilters[name] != nil || slices.Contains(gonjaFilters, name)
}

// filters returns every filter a compiled template may use.
func filters() *exec.FilterSet {
	set := operators()
	for name, op := range ownFilters {
		set[name] = pay(func(b *budget, in *exec.Value, p *exec.VarArgs) (*exec.Value, error) {
			return payFor(b, in, func() (*exec.Value, error) { return op(b, in, p) })
		})
	}
	for _, name := range gonjaFilters {
		filter, _ := builtins.Filters.Get(name)
		set[name] = func(e *exec.Evaluator, in *exec.Value, p *exec.VarArgs) *exec.Value {
			return pay(func(b *budget, in *exec.Value, p *exec.VarArgs) (*exec.Value, error) {
				return payFor(b, in, func() (*exec.Value, error) { return filter(e, in, p), nil })
			})(e, in, p)
		}
	}
	return exec.NewFilterSet(set)
}

// payFor pays for what an operation reads and for what it makes.
func payFor(b *budget, in *exec.Value, op func() (*exec.Value, error)) (*exec.Value, error) {
	if err := b.read(in); err != nil {
		return nil, err
	}
	result, err := op()
	if err != nil {
		return nil, err
	}
	return result, b.made(result)
}

// argument returns a positional or named argument as a string.
func argument(p *exec.VarArgs, i int, name, otherwise string) string {
	if i < len(p.Args) {
		return p.Args[i].String()
	}
	return p.GetKeywordArgument(name, otherwise).String()
}

func trim(_ *budget, in *exec.Value, p *exec.VarArgs) (*exec.Value, error) {
	if cut := argument(p, 0, "chars", ""); cut != "" {
		return exec.AsValue(strings.Trim(in.String(), cut)), nil
	}
	return exec.AsValue(strings.TrimFunc(in.String(), isPythonSpace)), nil
}

// isPythonSpace is str.isspace: Unicode's white space and four control characters more.
func isPythonSpace(r rune) bool { return unicode.IsSpace(r) || 0x1C <= r && r <= 0x1F }

func join(b *budget, in *exec.Value, separator string) (*exec.Value, error) {
	items, err := itemsOf(in)
	if err != nil {
		return nil, err
	}
	size := 0
	parts := make([]string, len(items))
	for i, item := range items {
		parts[i] = item.String()
		size += len(parts[i]) + len(separator)
		if err := b.grow(size); err != nil {
			return nil, err
		}
	}
	return exec.AsValue(strings.Join(parts, separator)), nil
}

func replace(b *budget, in *exec.Value, args []*exec.Value) (*exec.Value, error) {
	if len(args) < 2 {
		return nil, errors.New("replace wants two arguments")
	}
	s, old, new := in.String(), args[0].String(), args[1].String()
	n := strings.Count(s, old)
	if len(args) > 2 && args[2].IsInteger() && args[2].Integer() >= 0 {
		n = min(n, args[2].Integer())
	}
	if n > 0 && len(new) > b.maxValue/n {
		return nil, b.grow(b.maxValue + 1)
	}
	if err := b.grow(len(s) + n*len(new)); err != nil {
		return nil, err
	}
	return exec.AsValue(strings.Replace(s, old, new, n)), nil
}

// indent puts width spaces (default 4) in front of every line but the first; Jinja2's
// indent(width, first, blank).
func indent(b *budget, in *exec.Value, p *exec.VarArgs) (*exec.Value, error) {
	width, first, blank := p.GetKeywordArgument("width", 4), p.GetKeywordArgument("first", false), p.GetKeywordArgument("blank", false)
	for i, v := range []**exec.Value{&width, &first, &blank} {
		if i < len(p.Args) {
			*v = p.Args[i]
		}
	}
	margin := width.String()
	if width.IsInteger() {
		if n := width.Integer(); n < 0 || n > 1000 {
			return nil, fmt.Errorf("indent by %d", n)
		}
		margin = strings.Repeat(" ", width.Integer())
	}
	s := in.String()
	lines := strings.Count(s, "\n") + 1
	if err := b.grow(len(s) + lines*len(margin)); err != nil {
		return nil, err
	}
	var out strings.Builder
	for i, line := range strings.Split(s, "\n") {
		if i > 0 {
			out.WriteByte('\n')
		}
		if i == 0 && first.IsTrue() || i > 0 && (line != "" || blank.IsTrue()) {
			out.WriteString(margin)
		}
		out.WriteString(line)
	}
	return exec.AsValue(out.String()), nil
}

func length(_ *budget, in *exec.Value, _ *exec.VarArgs) (*exec.Value, error) {
	if in.IsString() {
		return exec.AsValue(utf8.RuneCountInString(in.String())), nil
	}
	items, err := itemsOf(in)
	return exec.AsValue(len(items)), err
}

func end(b *budget, in *exec.Value, i int) (*exec.Value, error) {
	if in.IsDict() || in.IsNil() {
		items, err := itemsOf(in)
		if err != nil || len(items) == 0 {
			return exec.AsValue(nil), err
		}
		in = exec.AsValue(items)
	}
	return item(b, in, &exec.VarArgs{Args: []*exec.Value{exec.AsValue(i)}})
}

func reverse(_ *budget, in *exec.Value, _ *exec.VarArgs) (*exec.Value, error) {
	items, err := itemsOf(in)
	slices.Reverse(items)
	if err != nil || !in.IsString() {
		return exec.AsValue(items), err
	}
	var b strings.Builder
	for _, c := range items {
		b.WriteString(c.String())
	}
	return exec.AsValue(b.String()), nil
}

// dictItems lists [key, value] pairs in the dict's order.
func dictItems(_ *budget, in *exec.Value, _ *exec.VarArgs) (*exec.Value, error) {
	dict, ok := in.Interface().(*exec.Dict)
	if !ok {
		return nil, fmt.Errorf("items: %s is no dict", describe(in))
	}
	items := exec.ValuesList{}
	for _, pair := range dict.Pairs {
		items = append(items, exec.AsValue(exec.ValuesList{pair.Key, pair.Value}))
	}
	return exec.AsValue(items), nil
}

// globals are the functions of a chat template.
func globals(now func() time.Time) map[string]any {
	return map[string]any{
		"raise_exception": func(e *exec.Evaluator, p *exec.VarArgs) (*exec.Value, error) {
			err := errors.New(p.First().String())
			budgetOf(e.Environment).fail(err)
			return nil, err
		},
		"strftime_now": func(p *exec.VarArgs) (*exec.Value, error) {
			s, err := strftime(p.First().String(), now())
			return exec.AsValue(s), err
		},
		"namespace": func(p *exec.VarArgs) *exec.Value {
			ns := &namespace{vars: map[string]*exec.Value{}}
			for _, arg := range p.Args {
				if dict, ok := arg.Interface().(*exec.Dict); ok {
					for _, pair := range dict.Pairs {
						ns.vars[pair.Key.String()] = pair.Value
					}
				}
			}
			for name, value := range p.KwArgs {
				ns.vars[name] = value
			}
			return exec.AsValue(ns)
		},
		"dict": func(p *exec.VarArgs) *exec.Value {
			d := exec.NewDict()
			for _, name := range slices.Sorted(maps.Keys(p.KwArgs)) {
				d.Pairs = append(d.Pairs, &exec.Pair{Key: exec.AsValue(name), Value: p.KwArgs[name]})
			}
			return exec.AsValue(d)
		},
		"range": rangeOf,
	}
}

// namespace is what namespace() makes: variables that a set in a loop can write.
type namespace struct{ vars map[string]*exec.Value }

func (n *namespace) String() string { return "<Namespace>" }

func rangeOf(e *exec.Evaluator, p *exec.VarArgs) (*exec.Value, error) {
	start, stop, step := 0, 0, 1
	for i, arg := range p.Args {
		if !arg.IsInteger() || i > 2 {
			return nil, errors.New("range wants one to three whole numbers")
		}
		switch i {
		case 0:
			stop = arg.Integer()
		case 1:
			start, stop = stop, arg.Integer()
		case 2:
			step = arg.Integer()
		}
	}
	if step == 0 {
		return nil, errors.New("range: step is 0")
	}
	items := exec.ValuesList{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(items) == maxNodes {
			return nil, fmt.Errorf("range of more than %d numbers", maxNodes)
		}
		items = append(items, exec.AsValue(i))
	}
	return exec.AsValue(items), budgetOf(e.Environment).spend(len(items))
}
