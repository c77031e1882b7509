package tokenizer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/exec"
)

// gonjaMethods are gonja's methods of strings that make nothing larger than what goes in.
var gonjaMethods = []string{
	"capitalize", "casefold", "count", "endswith", "find", "isalnum", "isalpha", "isascii",
	"isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "lower",
	"partition", "removeprefix", "removesuffix", "rfind", "rpartition", "rsplit", "split",
	"splitlines", "startswith", "swapcase", "title", "upper",
}

// method is x.name(...). Hugging Face renders in Jinja2's immutable sandbox, so what
// changes a list or a dict is not there.
func method(b *budget, in *exec.Value, params *exec.VarArgs) (*exec.Value, error) {
	name := params.Args[0].String()
	args := &exec.VarArgs{Args: params.Args[1:], KwArgs: params.KwArgs}
	return payFor(b, in, func() (*exec.Value, error) {
		switch {
		case in.IsNil():
			return nil, fmt.Errorf("what .%s() is called on is undefined", name)
		case in.IsString():
			return stringMethod(b, in, name, args)
		case in.IsDict():
			return dictMethod(b, in, name, args)
		}
		if getter, ok := in.Interface().(exec.AttributeGetter); ok { // loop.cycle
			if f, ok := getter.GetAttribute(name); ok {
				if call, ok := f.Interface().(func(*exec.VarArgs) *exec.Value); ok {
					return call(args), nil
				}
			}
		}
		return nil, fmt.Errorf("%s has no method %s", describe(in), name)
	})
}

func stringMethod(b *budget, in *exec.Value, name string, args *exec.VarArgs) (*exec.Value, error) {
	s := in.String()
	switch name {
	case "strip", "lstrip", "rstrip":
		return strip(s, name, args), nil
	case "replace":
		return replace(b, in, args.Args)
	case "join":
		return join(b, args.First(), s)
	}
	if !slices.Contains(gonjaMethods, name) {
		return nil, fmt.Errorf("a string has no method %s here", name)
	}
	call, _ := builtins.Methods.Str.Get(name)
	result, err := call(s, in, args)
	return exec.ToValue(result), err
}

func strip(s, side string, args *exec.VarArgs) *exec.Value {
	in := isPythonSpace
	if !args.First().IsNil() {
		cut := args.First().String()
		in = func(r rune) bool { return strings.ContainsRune(cut, r) }
	}
	if side != "rstrip" {
		s = strings.TrimLeftFunc(s, in)
	}
	if side != "lstrip" {
		s = strings.TrimRightFunc(s, in)
	}
	return exec.AsValue(s)
}

func dictMethod(b *budget, in *exec.Value, name string, args *exec.VarArgs) (*exec.Value, error) {
	dict, ok := in.Interface().(*exec.Dict)
	if !ok {
		return nil, errors.New("not a dict of this template")
	}
	switch name {
	case "items":
		return dictItems(b, in, args)
	case "keys":
		return exec.AsValue(dict.Keys()), nil
	case "values":
		values := exec.ValuesList{}
		for _, pair := range dict.Pairs {
			values = append(values, pair.Value)
		}
		return exec.AsValue(values), nil
	case "get":
		key := args.First()
		for _, pair := range dict.Pairs {
			if pair.Key.EqualValueTo(key) {
				return pair.Value, nil
			}
		}
		if len(args.Args) > 1 {
			return args.Args[1], nil
		}
		return exec.AsValue(nil), nil
	}
	return nil, fmt.Errorf("a dict has no method %s here", name)
}
