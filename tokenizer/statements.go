package tokenizer

import (
	"errors"
	"fmt"
	"io"

	"github.com/nikolalohinski/gonja/v2/builtins"
	statements "github.com/nikolalohinski/gonja/v2/builtins/control_structures"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// controlStructures are the statements of a chat template. include, import, extends and
// block are not among them: they read files or render without end.
func controlStructures() *exec.ControlStructureSet {
	set := map[string]parser.ControlStructureParser{
		"set":        parseSet,
		"macro":      parseMacro,
		"generation": parseGeneration,
	}
	for _, name := range []string{"if", "for", "break", "continue", "raw"} {
		set[name], _ = builtins.ControlStructures.Get(name)
	}
	for name, parse := range set {
		set[name] = func(p, args *parser.Parser) (nodes.ControlStructure, error) {
			line := lineOf(p.Current())
			statement, err := parse(p, args)
			if at := (*templateError)(nil); err != nil && !errors.As(err, &at) {
				err = &templateError{lineOfError(err, line), err.Error()}
			}
			return statement, err
		}
	}
	return exec.NewControlStructureSet(set)
}

// lineOfError finds the line in a syntax error of gonja's.
func lineOfError(err error, otherwise int) int {
	if at := (*parser.SyntaxError)(nil); errors.As(err, &at) && at.Line > 0 {
		return at.Line
	}
	return otherwise
}

// setStatement is {% set name = value %}, {% set namespace.name = value %} and
// {% set name %}...{% endset %}.
type setStatement struct {
	location                      *tokens.Token
	name, attribute               string
	value, condition, alternative nodes.Expression
	body                          *nodes.Wrapper
}

func (s *setStatement) Position() *tokens.Token { return s.location }
func (s *setStatement) String() string          { return "set " + s.name }

func parseSet(p, args *parser.Parser) (nodes.ControlStructure, error) {
	s := &setStatement{location: args.Current()}
	name := args.Match(tokens.Name)
	if name == nil {
		return nil, args.Error("set wants a name", args.Current())
	}
	s.name = name.Val
	if args.Match(tokens.Dot) != nil {
		attribute := args.Match(tokens.Name)
		if attribute == nil {
			return nil, args.Error("set wants a name after the dot", args.Current())
		}
		s.attribute = attribute.Val
	}
	var err error
	if args.Match(tokens.Assign) == nil {
		if !args.End() {
			return nil, args.Error("set wants = or the end of the tag", args.Current())
		}
		s.body, _, err = p.WrapUntil("endset")
		return s, err
	}
	if s.value, err = args.ParseExpression(); err != nil {
		return nil, err
	}
	if s.condition, s.alternative, err = args.ParseCondition(); err != nil {
		return nil, err
	}
	if !args.End() {
		return nil, args.Error("set does not end after its value", args.Current())
	}
	return s, nil
}

func (s *setStatement) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	value, err := s.eval(r)
	if err != nil {
		return err
	}
	if s.attribute == "" {
		r.Environment.Context.Set(s.name, value)
		return nil
	}
	target, _ := r.Environment.Context.Get(s.name)
	ns, ok := exec.ToValue(target).Interface().(*namespace)
	if !ok {
		return fmt.Errorf("%s is no namespace", s.name)
	}
	ns.vars[s.attribute] = value
	return nil
}

func (s *setStatement) eval(r *exec.Renderer) (*exec.Value, error) {
	if s.body != nil {
		text, err := capture(r, s.body)
		return exec.AsValue(text), err
	}
	expression := s.value
	if s.condition != nil {
		condition := r.Eval(s.condition)
		if condition.IsError() {
			return nil, condition
		}
		if !condition.IsTrue() {
			expression = s.alternative
		}
	}
	if expression == nil {
		return exec.AsValue(nil), nil
	}
	value := r.Eval(expression)
	if value.IsError() {
		return nil, value
	}
	return value, nil
}

// macroStatement is gonja's, with a limit on calls within calls.
type macroStatement struct{ *nodes.Macro }

func parseMacro(p, args *parser.Parser) (nodes.ControlStructure, error) {
	parse, _ := builtins.ControlStructures.Get("macro")
	statement, err := parse(p, args)
	if err != nil {
		return nil, err
	}
	return &macroStatement{statement.(*statements.MacroControlStructure).Macro}, nil
}

func (s *macroStatement) String() string { return "macro " + s.Name }

func (s *macroStatement) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	macro, err := exec.MacroNodeToFunc(s.Macro, r)
	if err != nil {
		return err
	}
	b := budgetOf(r.Environment)
	r.Environment.Context.Set(s.Name, exec.Macro(func(params *exec.VarArgs) *exec.Value {
		if b.depth++; b.depth > maxMacroDepth {
			b.fail(fmt.Errorf("macro %s calls itself more than %d times", s.Name, maxMacroDepth))
		}
		defer func() { b.depth-- }()
		if err := b.spend(callCost); err != nil {
			return exec.AsValue(err)
		}
		return macro(params)
	}))
	return nil
}

// bodyStatement is all a macro holds after compilation: gonja gives macros an output of
// their own without bounds, so the body is written to one of ours first.
type bodyStatement struct{ wrapper *nodes.Wrapper }

func (s *bodyStatement) Position() *tokens.Token { return s.wrapper.Location }
func (s *bodyStatement) String() string          { return "body" }

func (s *bodyStatement) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	text, err := capture(r, s.wrapper)
	if err != nil {
		return err
	}
	_, err = io.WriteString(r.Output, text)
	return err
}

// capture renders a block to a string.
func capture(r *exec.Renderer, w *nodes.Wrapper) (string, error) {
	sub := r.Inherit()
	out := &output{budget: budgetOf(r.Environment)}
	sub.Output = out
	err := sub.ExecuteWrapper(w)
	return out.String(), err
}

// generationStatement is {% generation %}, which marks what the assistant says for training
// and renders its content.
type generationStatement struct {
	location *tokens.Token
	wrapper  *nodes.Wrapper
}

func (s *generationStatement) Position() *tokens.Token { return s.location }
func (s *generationStatement) String() string          { return "generation" }

func parseGeneration(p, _ *parser.Parser) (nodes.ControlStructure, error) {
	location := p.Current()
	wrapper, _, err := p.WrapUntil("endgeneration")
	return &generationStatement{location, wrapper}, err
}

func (s *generationStatement) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	return r.ExecuteIfWrapper(s.wrapper)
}
