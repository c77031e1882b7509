package tokenizer

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// The filters the compiler writes into a template's tree. No template can spell them.
const (
	filterRead      = "read a name"
	filterMade      = "made"
	filterText      = "text"
	filterIterate   = "iterate"
	filterGuard     = "guard"
	filterOperator  = "operator"
	filterAttribute = "attribute"
	filterItem      = "item"
	filterMethod    = "method"
)

// operation computes a value from one that is no error.
type operation func(b *budget, in *exec.Value, params *exec.VarArgs) (*exec.Value, error)

// pay makes a filter of an operation: errors pass through and are kept in the budget, since
// gonja drops some, and panics of gonja's own on odd arguments become errors.
func pay(op operation) exec.FilterFunction {
	return func(e *exec.Evaluator, in *exec.Value, params *exec.VarArgs) (result *exec.Value) {
		b := budgetOf(e.Environment)
		if in.IsError() {
			b.fail(in)
			return in
		}
		result, err := safely(func() (*exec.Value, error) { return op(b, in, params) })
		if err == nil {
			err = b.err
		}
		if err != nil {
			b.fail(err)
			return exec.AsValue(b.err)
		}
		return result
	}
}

func safely(f func() (*exec.Value, error)) (v *exec.Value, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("invalid operation: %v", p)
		}
	}()
	return f()
}

func operators() map[string]exec.FilterFunction {
	return map[string]exec.FilterFunction{
		filterRead:      pay(func(b *budget, in *exec.Value, _ *exec.VarArgs) (*exec.Value, error) { return in, b.read(in) }),
		filterMade:      pay(func(b *budget, in *exec.Value, _ *exec.VarArgs) (*exec.Value, error) { return in, b.made(in) }),
		filterGuard:     pay(unchanged),
		filterText:      pay(asText),
		filterIterate:   pay(iterate),
		filterOperator:  pay(operator),
		filterAttribute: pay(attribute),
		filterItem:      pay(item),
		filterMethod:    pay(method),
	}
}

func unchanged(_ *budget, in *exec.Value, _ *exec.VarArgs) (*exec.Value, error) { return in, nil }

func asText(_ *budget, in *exec.Value, _ *exec.VarArgs) (*exec.Value, error) {
	return exec.AsValue(in.String()), nil
}

// iterate makes the list a for statement walks: the keys of a dict, the characters of a
// string, nothing for what is undefined.
func iterate(b *budget, in *exec.Value, _ *exec.VarArgs) (*exec.Value, error) {
	items, err := itemsOf(in)
	if err != nil {
		return nil, err
	}
	return exec.AsValue(items), b.spend(1 + turnCost*len(items))
}

func itemsOf(in *exec.Value) (exec.ValuesList, error) {
	items := exec.ValuesList{}
	switch r := resolve(in); {
	case in.IsNil():
	case r.Kind() == reflect.String:
		if utf8.RuneCountInString(r.String()) > maxNodes {
			return nil, fmt.Errorf("a string of more than %d characters is not walked", maxNodes)
		}
		for _, c := range r.String() {
			items = append(items, exec.AsValue(string(c)))
		}
	case r.Kind() == reflect.Slice:
		for i := range r.Len() {
			items = append(items, exec.ToValue(r.Index(i)))
		}
	case in.IsDict():
		items = in.Keys()
	default:
		return nil, fmt.Errorf("%s is not iterable", in.String())
	}
	return items, nil
}

// attribute is x.name.
func attribute(_ *budget, in *exec.Value, params *exec.VarArgs) (*exec.Value, error) {
	name := params.Args[0].String()
	if in.IsNil() {
		return nil, fmt.Errorf("what .%s is taken from is undefined", name)
	}
	switch v := in.Interface().(type) {
	case *namespace:
		if value, ok := v.vars[name]; ok {
			return value, nil
		}
	case *exec.Dict:
		return v.Get(exec.AsValue(name)), nil
	case exec.AttributeGetter: // the loop variable
		value, _ := v.GetAttribute(name)
		return value, nil
	}
	return exec.AsValue(nil), nil
}

// item is x[key]. Lists and strings take whole numbers, from the end where negative.
func item(b *budget, in *exec.Value, params *exec.VarArgs) (*exec.Value, error) {
	key := params.Args[0]
	r := resolve(in)
	switch {
	case in.IsNil():
		return nil, fmt.Errorf("what [%s] is taken from is undefined", key.String())
	case r.Kind() == reflect.String && key.IsInteger():
		return character(b, r.String(), key.Integer())
	case r.Kind() == reflect.Slice && key.IsInteger():
		i := key.Integer()
		if i < 0 {
			i += r.Len()
		}
		if i < 0 || i >= r.Len() {
			return exec.AsValue(nil), nil
		}
		return exec.ToValue(r.Index(i)), nil
	case key.IsString():
		return attribute(b, in, params)
	case in.IsDict():
		return in.Interface().(*exec.Dict).Get(key), nil
	}
	return exec.AsValue(nil), nil
}

// character is s[i].
func character(b *budget, s string, i int) (*exec.Value, error) {
	n := utf8.RuneCountInString(s)
	if i < 0 {
		i += n
	}
	if i < 0 || i >= n {
		return exec.AsValue(nil), nil
	}
	at := 0
	for range i {
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	_, size := utf8.DecodeRuneInString(s[at:])
	return exec.AsValue(s[at : at+size]), b.spend(n / 8)
}

// operator is op x and x op y, with Python's meaning.
func operator(b *budget, left *exec.Value, params *exec.VarArgs) (*exec.Value, error) {
	op := params.Args[0].String()
	switch {
	case op == "not":
		return exec.AsValue(!left.IsTrue()), nil
	case op == "neg" && left.IsFloat():
		return exec.AsValue(-left.Float()), nil
	case op == "neg" && left.IsInteger():
		return exec.AsValue(-left.Integer()), nil
	case op == "neg":
		return nil, fmt.Errorf("- of %s: not a number", left.String())
	}
	right := params.Args[1]
	if b.read(left) != nil || b.read(right) != nil {
		return nil, b.err
	}
	switch op {
	case "==":
		return exec.AsValue(left.EqualValueTo(right)), nil
	case "!=":
		return exec.AsValue(!left.EqualValueTo(right)), nil
	case "<", "<=", ">", ">=":
		return compare(op, left, right)
	case "in":
		return contains(right, left)
	case "~":
		return concat(b, left.String(), right.String())
	case "+":
		return add(b, left, right)
	case "*":
		if left.IsString() && right.IsInteger() {
			return repeat(b, left.String(), right.Integer())
		}
	}
	return arithmetic(op, left, right)
}

func concat(b *budget, left, right string) (*exec.Value, error) {
	if err := b.grow(len(left) + len(right)); err != nil {
		return nil, err
	}
	return exec.AsValue(left + right), nil
}

func repeat(b *budget, s string, n int) (*exec.Value, error) {
	n = max(n, 0)
	if len(s) > 0 && n > b.maxValue/len(s) {
		n = b.maxValue/len(s) + 1
	}
	if err := b.grow(len(s) * n); err != nil {
		return nil, err
	}
	return exec.AsValue(strings.Repeat(s, n)), nil
}

func add(b *budget, left, right *exec.Value) (*exec.Value, error) {
	switch {
	case left.IsString() && right.IsString():
		return concat(b, left.String(), right.String())
	case left.IsList() && right.IsList():
		first, _ := itemsOf(left)
		second, _ := itemsOf(right)
		sum := exec.AsValue(append(first, second...))
		return sum, b.made(sum)
	}
	return arithmetic("+", left, right)
}

func compare(op string, left, right *exec.Value) (*exec.Value, error) {
	var order int
	switch {
	case left.IsNumber() && right.IsNumber():
		l, r := left.Float(), right.Float()
		switch {
		case l < r:
			order = -1
		case l > r:
			order = 1
		}
	case left.IsString() && right.IsString():
		order = strings.Compare(left.String(), right.String())
	default:
		return nil, fmt.Errorf("%s compares only numbers or strings", op)
	}
	return exec.AsValue(order < 0 && op[0] == '<' || order > 0 && op[0] == '>' || order == 0 && len(op) == 2), nil
}

func contains(container, v *exec.Value) (*exec.Value, error) {
	switch {
	case container.IsString() && v.IsString():
		return exec.AsValue(strings.Contains(container.String(), v.String())), nil
	case container.IsNil() || container.IsString() || !container.IsIterable():
		return nil, fmt.Errorf("in: %q cannot hold %q", container.String(), v.String())
	}
	items, err := itemsOf(container)
	return exec.AsValue(items.Contains(v)), err
}

func arithmetic(op string, left, right *exec.Value) (*exec.Value, error) {
	if !left.IsNumber() || !right.IsNumber() {
		return nil, fmt.Errorf("%s of %s and %s", op, describe(left), describe(right))
	}
	if (op == "/" || op == "//" || op == "%") && right.Float() == 0 {
		return nil, errors.New("division by zero")
	}
	if left.IsInteger() && right.IsInteger() {
		l, r := left.Integer(), right.Integer()
		switch op {
		case "+", "-", "*", "//":
			return exec.AsValue(sameKind(op, l, r)), nil
		case "%":
			return exec.AsValue(((l % r) + r) % r), nil
		}
	}
	l, r := left.Float(), right.Float()
	switch op {
	case "+", "-", "*", "//":
		return exec.AsValue(sameKind(op, l, r)), nil
	case "/":
		return exec.AsValue(l / r), nil
	case "%":
		return exec.AsValue(l - r*math.Floor(l/r)), nil
	case "**":
		power := math.Pow(l, r)
		if left.IsInteger() && right.IsInteger() && r >= 0 && power < 1<<53 {
			return exec.AsValue(int(power)), nil
		}
		return exec.AsValue(power), nil
	}
	return nil, fmt.Errorf("operator %s is not supported", op)
}

// sameKind is l op r where the result is of the kind of l and r.
func sameKind[N int | float64](op string, l, r N) N {
	switch op {
	case "+":
		return l + r
	case "-":
		return l - r
	case "*":
		return l * r
	}
	return N(math.Floor(float64(l) / float64(r)))
}

func describe(v *exec.Value) string {
	switch {
	case v.IsNil():
		return "an undefined value"
	case v.IsString():
		return "a string"
	case v.IsNumber():
		return "a number"
	case v.IsList():
		return "a list"
	case v.IsDict():
		return "a dict"
	}
	return "a value of another kind"
}
