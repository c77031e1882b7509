package tokenizer

import (
	"fmt"
	"slices"
	"strconv"

	statements "github.com/nikolalohinski/gonja/v2/builtins/control_structures"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

const (
	maxExpressionDepth = 500
	maxBlockDepth      = 100
)

// A compiler rewrites the tree gonja parsed, in place. Operators, attributes, items, methods
// and loops become calls of the filters in operators.go, whose names no template can write;
// they pay the budget and do what Jinja2 does where gonja does something else.
type compiler struct{ literals []string }

// templateError is an error at a line of a chat template.
type templateError struct {
	line int
	msg  string
}

func (e *templateError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.msg) }

func errorAt(at nodes.Node, format string, args ...any) error {
	return &templateError{lineOf(at.Position()), fmt.Sprintf(format, args...)}
}

func lineOf(t *tokens.Token) int {
	if t == nil {
		return 1
	}
	return t.Line
}

// filtered is expr passed to one of our filters.
func filtered(expr nodes.Expression, filter string, args ...nodes.Expression) *nodes.FilteredExpression {
	call := &nodes.FilterCall{Token: expr.Position(), Name: filter, Args: args}
	return &nodes.FilteredExpression{Expression: expr, Filters: []*nodes.FilterCall{call}}
}

// text is a string constant.
func text(at nodes.Node, s string) nodes.Expression {
	return &nodes.String{Location: at.Position(), Val: s}
}

// body rewrites the content of a block.
func (c *compiler) body(list []nodes.Node, depth int) error {
	for _, node := range list {
		if depth > maxBlockDepth {
			return errorAt(node, "blocks nested deeper than %d", maxBlockDepth)
		}
		var err error
		switch n := node.(type) {
		case *nodes.Output:
			err = c.output(n)
		case *nodes.ControlStructureBlock:
			err = c.statement(n, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) output(n *nodes.Output) error {
	if err := c.all(&n.Expression, &n.Condition, &n.Alternative); err != nil {
		return err
	}
	n.Expression = filtered(n.Expression, filterText)
	if n.Alternative != nil {
		n.Alternative = filtered(n.Alternative, filterText)
	}
	return nil
}

func (c *compiler) statement(block *nodes.ControlStructureBlock, depth int) error {
	switch n := block.ControlStructure.(type) {
	case *statements.IfControlStructure:
		for i := range n.Conditions {
			if err := c.all(&n.Conditions[i]); err != nil {
				return err
			}
		}
		for _, w := range n.Wrappers {
			if err := c.body(w.Nodes, depth); err != nil {
				return err
			}
		}
		return nil
	case *statements.ForControlStructure:
		return c.loop(block, n, depth)
	case *setStatement:
		return c.set(n, depth)
	case *macroStatement:
		for _, arg := range n.Kwargs {
			if err := c.all(&arg.Value); err != nil {
				return err
			}
		}
		if err := c.body(n.Wrapper.Nodes, depth); err != nil {
			return err
		}
		body := &bodyStatement{n.Wrapper}
		block := &nodes.ControlStructureBlock{Location: block.Location, Name: "body", ControlStructure: body}
		n.Wrapper = &nodes.Wrapper{Location: n.Wrapper.Location, Nodes: []nodes.Node{block}}
		return nil
	case *generationStatement:
		return c.body(n.wrapper.Nodes, depth)
	}
	return nil // break, continue, raw
}

func (c *compiler) loop(block *nodes.ControlStructureBlock, n *statements.ForControlStructure, depth int) error {
	if n.Recursive {
		return errorAt(block, "recursive loops are not supported")
	}
	if err := c.all(&n.ObjectEvaluator, &n.IfCondition); err != nil {
		return err
	}
	n.ObjectEvaluator = filtered(n.ObjectEvaluator, filterIterate)
	if n.IfCondition != nil {
		n.IfCondition = filtered(n.IfCondition, filterGuard) // gonja takes an error here for false
	}
	if err := c.body(n.BodyWrapper.Nodes, depth); err != nil {
		return err
	}
	if n.EmptyWrapper != nil {
		return c.body(n.EmptyWrapper.Nodes, depth)
	}
	return nil
}

func (c *compiler) set(n *setStatement, depth int) error {
	if n.body != nil {
		return c.body(n.body.Nodes, depth)
	}
	return c.all(&n.value, &n.condition, &n.alternative)
}

// all rewrites expressions, nil ones excepted.
func (c *compiler) all(list ...*nodes.Expression) error {
	return c.rewrite(slices.DeleteFunc(list, func(e *nodes.Expression) bool { return *e == nil }), 0)
}

func (c *compiler) rewrite(list []*nodes.Expression, depth int) error {
	for _, e := range list {
		rewritten, err := c.expr(*e, depth)
		if err != nil {
			return err
		}
		*e = rewritten
	}
	return nil
}

// rewriter rewrites parts of an expression in place.
type rewriter func(parts ...*nodes.Expression) error

// expr rewrites an expression and those in it.
func (c *compiler) expr(e nodes.Expression, depth int) (nodes.Expression, error) {
	if e == nil {
		return nil, &templateError{1, "expression missing"}
	}
	if depth++; depth > maxExpressionDepth {
		return nil, errorAt(e, "expression nested deeper than %d", maxExpressionDepth)
	}
	sub := func(parts ...*nodes.Expression) error { return c.rewrite(parts, depth) }
	switch n := e.(type) {
	case *nodes.String:
		i, err := strconv.Atoi(n.Val)
		if err != nil || i < 0 || i >= len(c.literals) {
			return nil, errorAt(n, "string %q is not one of the template's", n.Val)
		}
		return text(n, c.literals[i]), nil
	case *nodes.Integer, *nodes.Float, *nodes.Bool, *nodes.None:
		return n, nil
	case *nodes.Name:
		return filtered(n, filterRead), nil
	case *nodes.List:
		return filtered(n, filterMade), c.items(n.Val, sub)
	case *nodes.Tuple:
		return filtered(n, filterMade), c.items(n.Val, sub)
	case *nodes.Dict:
		for _, pair := range n.Pairs {
			if err := sub(&pair.Key, &pair.Value); err != nil {
				return nil, err
			}
		}
		return filtered(n, filterMade), nil
	case *nodes.Negation:
		return c.operator("not", sub, n.Term)
	case *nodes.UnaryExpression:
		if !n.Negative {
			return c.expr(n.Term, depth)
		}
		return c.operator("neg", sub, n.Term)
	case *nodes.BinaryExpression:
		if t := n.Operator.Token.Type; t == tokens.And || t == tokens.Or {
			return n, sub(&n.Left, &n.Right)
		}
		return c.operator(n.Operator.Token.Val, sub, n.Left, n.Right)
	case *nodes.FilteredExpression:
		return c.filter(n, sub)
	case *nodes.TestExpression:
		return c.test(n, sub)
	case *nodes.Call:
		return c.call(n, sub)
	}
	return c.access(e, sub)
}

func (c *compiler) items(list []nodes.Expression, sub rewriter) error {
	for i := range list {
		if err := sub(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

// access rewrites x.name, x[i] and x[i:j:k].
func (c *compiler) access(e nodes.Expression, sub rewriter) (nodes.Expression, error) {
	switch n := e.(type) {
	case *nodes.GetAttribute:
		target := nodes.Expression(n.Node)
		if err := sub(&target); err != nil {
			return nil, err
		}
		if n.Attribute == "" {
			return filtered(target, filterItem, &nodes.Integer{Location: n.Location, Val: n.Index}), nil
		}
		return filtered(target, filterAttribute, text(n, n.Attribute)), nil
	case *nodes.GetItem:
		target, key := nodes.Expression(n.Node), nodes.Expression(n.Arg)
		if err := sub(&target, &key); err != nil {
			return nil, err
		}
		return filtered(target, filterItem, key), nil
	case *nodes.GetSlice:
		for _, part := range []*nodes.Node{&n.Node, &n.Start, &n.End, &n.Step} {
			if *part == nil {
				continue
			}
			e := nodes.Expression(*part)
			if err := sub(&e); err != nil {
				return nil, err
			}
			*part = e
		}
		return filtered(n, filterMade), nil
	}
	return nil, errorAt(e, "expression %T is not supported", e)
}

func (c *compiler) operator(op string, sub rewriter, operands ...nodes.Expression) (nodes.Expression, error) {
	if err := c.items(operands, sub); err != nil {
		return nil, err
	}
	left := operands[0]
	return filtered(left, filterOperator, append([]nodes.Expression{text(left, op)}, operands[1:]...)...), nil
}

func (c *compiler) filter(n *nodes.FilteredExpression, sub rewriter) (nodes.Expression, error) {
	if err := sub(&n.Expression); err != nil {
		return nil, err
	}
	for _, f := range n.Filters {
		if !isFilter(f.Name) {
			return nil, &templateError{lineOf(f.Token), fmt.Sprintf("filter %q is not known", f.Name)}
		}
		if err := c.arguments(f.Args, f.Kwargs, sub); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (c *compiler) arguments(args []nodes.Expression, named map[string]nodes.Expression, sub rewriter) error {
	if err := c.items(args, sub); err != nil {
		return err
	}
	for name, arg := range named {
		if err := sub(&arg); err != nil {
			return err
		}
		named[name] = arg
	}
	return nil
}

func (c *compiler) test(n *nodes.TestExpression, sub rewriter) (nodes.Expression, error) {
	if n.Test.Name == "in" && len(n.Test.Args) == 1 {
		return c.operator("in", sub, n.Expression, n.Test.Args[0])
	}
	if !isTest(n.Test.Name) {
		return nil, &templateError{lineOf(n.Test.Token), fmt.Sprintf("test %q is not known", n.Test.Name)}
	}
	if err := sub(&n.Expression); err != nil {
		return nil, err
	}
	return n, c.items(n.Test.Args, sub)
}

// call rewrites f(...) and x.method(...).
func (c *compiler) call(n *nodes.Call, sub rewriter) (nodes.Expression, error) {
	if err := c.arguments(n.Args, n.Kwargs, sub); err != nil {
		return nil, err
	}
	switch f := n.Func.(type) {
	case *nodes.Name:
		return filtered(n, filterMade), nil
	case *nodes.GetAttribute:
		target := nodes.Expression(f.Node)
		if err := sub(&target); err != nil {
			return nil, err
		}
		call := filtered(target, filterMethod, append([]nodes.Expression{text(n, f.Attribute)}, n.Args...)...)
		call.Filters[0].Kwargs = n.Kwargs
		return call, nil
	}
	return nil, errorAt(n, "only functions, macros and methods can be called")
}
