package tokenizer

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nikolalohinski/gonja/v2/builtins"
	gonjaconfig "github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
)

const maxTemplateBytes = 128 << 10 // published ones are under 30 KB

// chatTemplate is a compiled chat template.
type chatTemplate struct {
	source   templateSource
	template *exec.Template
}

// fileLoader hands gonja the template and no file.
type fileLoader struct{ source string }

func (l fileLoader) Read(string) (io.Reader, error) { return strings.NewReader(l.source), nil }
func (l fileLoader) Resolve(path string) (string, error) {
	return "", fmt.Errorf("open %s: templates open no files", path)
}
func (l fileLoader) Inherit(string) (loaders.Loader, error) {
	return nil, errors.New("templates open no files")
}

// compileTemplate parses a template as Hugging Face sets Jinja2 up: trim_blocks,
// lstrip_blocks, break and continue, no escaping.
func compileTemplate(source templateSource) (*chatTemplate, error) {
	if source.source == "" {
		return nil, errors.New("chat: the model folder has no chat template (chat_template in tokenizer_config.json, or chat_template.jinja)")
	}
	fail := func(err error) (*chatTemplate, error) {
		return nil, fmt.Errorf("compile chat template %s: %w", source.file, err)
	}
	if len(source.source) > maxTemplateBytes {
		return fail(fmt.Errorf("%d bytes, more than the %d allowed", len(source.source), maxTemplateBytes))
	}
	lifted, literals, err := lift(source.source)
	if err != nil {
		return fail(err)
	}
	cfg := gonjaconfig.New()
	cfg.TrimBlocks = true
	cfg.LeftStripBlocks = true
	var template *exec.Template
	_, err = safely(func() (*exec.Value, error) {
		template, err = exec.NewTemplate("chat template", cfg, fileLoader{lifted}, &exec.Environment{
			Filters:           filters(),
			Tests:             tests(),
			ControlStructures: controlStructures(),
			Context:           exec.EmptyContext(),
			Methods:           builtins.Methods,
		})
		if err != nil {
			return nil, syntaxError(err)
		}
		c := &compiler{literals: literals}
		return nil, c.body(template.Root().Nodes, 0)
	})
	if err != nil {
		return fail(err)
	}
	return &chatTemplate{source, template}, nil
}

// syntaxError finds the line in an error of gonja's parser, whose text quotes the whole
// template.
func syntaxError(err error) error {
	if at := (*templateError)(nil); errors.As(err, &at) {
		return at
	}
	line := lineOfError(err, 0)
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	if line == 0 {
		return err
	}
	return &templateError{line, err.Error()}
}

var atLine = regexp.MustCompile(`at line (\d+)`)

// render executes the template; inputBytes is the size of what the variables hold.
func (c *chatTemplate) render(variables map[string]any, inputBytes int, now func() time.Time) (string, error) {
	b := newBudget(inputBytes)
	out := &output{budget: b}
	context := exec.NewContext(globals(now))
	for name, value := range variables {
		context.Set(name, value)
	}
	context.Set(budgetKey, b)
	_, err := safely(func() (*exec.Value, error) { return nil, c.template.Execute(out, context) })
	if err == nil {
		err = b.err
	}
	if err == nil {
		return out.String(), nil
	}
	line := ""
	if found := atLine.FindAllStringSubmatch(err.Error(), -1); found != nil {
		n, _ := strconv.Atoi(found[len(found)-1][1])
		line = fmt.Sprintf("line %d: ", n)
	}
	if b.err != nil {
		err = b.err
	}
	return "", fmt.Errorf("render chat template %s: %s%.500s", c.source.file, line, strings.ToValidUTF8(err.Error(), replacement))
}

// gonjaTests are those of gonja's tests that answer as Jinja2's.
var gonjaTests = []string{
	"boolean", "callable", "defined", "divisibleby", "eq", "equalto", "even", "float", "ge", "gt", "in",
	"integer", "iterable", "le", "lower", "lt", "mapping", "ne", "none", "number", "odd", "string",
	"undefined", "upper",
}

var ownTests = map[string]func(in *exec.Value) bool{
	"sequence": func(in *exec.Value) bool { return in.IsList() || in.IsString() || in.IsDict() },
	"true":     func(in *exec.Value) bool { return in.IsBool() && in.Bool() },
	"false":    func(in *exec.Value) bool { return in.IsBool() && !in.Bool() },
}

func isTest(name string) bool { return ownTests[name] != nil || slices.Contains(gonjaTests, name) }

// tests returns every test a compiled template may use.
func tests() *exec.TestSet {
	set := map[string]exec.TestFunction{}
	for _, name := range gonjaTests {
		set[name], _ = builtins.Tests.Get(name)
	}
	for name, test := range ownTests {
		set[name] = func(_ *exec.Context, in *exec.Value, _ *exec.VarArgs) (bool, error) { return test(in), nil }
	}
	return exec.NewTestSet(set)
}
