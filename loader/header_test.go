package loader

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/nlpodyssey/safetensors"
)

const (
	tensorA = `"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}`
	tensorB = `"b":{"dtype":"F32","shape":[4],"data_offsets":[12,28]}`
)

func TestCheckHeader(t *testing.T) {
	one := func(dtype, shape, offsets string) string {
		return fmt.Sprintf(`{"a":{"dtype":%s,"shape":%s,"data_offsets":%s}}`, dtype, shape, offsets)
	}
	tests := []struct {
		name   string
		header string
		data   int
		want   string // part of the error, "" for none
	}{
		{"two tensors", "{" + tensorA + "," + tensorB + "}", 28, ""},
		{"in any order", "{" + tensorB + "," + tensorA + "}", 28, ""},
		{"white space inside", "{ \n" + tensorA + "\t,\r" + tensorB + " }", 28, ""},
		{"spaces after", "{" + tensorA + "}    ", 12, ""},
		{"metadata", `{"__metadata__":{"format":"pt"},` + tensorA + "}", 12, ""},
		{"no tensors", `{}`, 0, ""},
		{"scalar", one(`"F32"`, `[]`, `[0,4]`), 4, ""},
		{"empty tensor", one(`"F32"`, `[0,5]`, `[0,0]`), 0, ""},
		{"empty between", `{` + tensorA + `,"e":{"dtype":"U8","shape":[0],"data_offsets":[12,12]},` + tensorB + `}`, 28, ""},
		{"rank 8", one(`"U8"`, `[1,1,1,1,1,1,1,2]`, `[0,2]`), 2, ""},
		{"escaped name", `{"\u00e9\n":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, ""},

		{"empty header", ``, 0, "does not begin with '{'"},
		{"null", `null`, 0, "does not begin with '{'"},
		{"list", `[]`, 0, "does not begin with '{'"},
		{"leading space", ` {}`, 0, "does not begin with '{'"},
		{"no JSON", `{a}`, 0, "want a string"},
		{"cut", `{"a":`, 0, "found the end"},
		{"trailing comma", `{` + tensorA + `,}`, 12, "want a string"},
		{"newline after", "{}\n", 0, "something else than spaces"},
		{"second object", "{} {}", 0, "something else than spaces"},
		{"NUL after", "{}\x00", 0, "something else than spaces"},
		{"not UTF-8", "{\"a\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "not UTF-8"},
		{"half a surrogate pair", `{"\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, "surrogate"},
		{"deep", strings.Repeat(`{"a":`, 1_000_000), 0, `unknown key "a"`},
		{"deep list", `{"a":{"shape":` + strings.Repeat(`[`, 1_000_000), 0, "want a number"},

		{"duplicate tensor", "{" + tensorA + "," + tensorA + "}", 12, `"a" given twice`},
		{"duplicate by escape", `{` + tensorA + `,"\u0061":{}}`, 12, `"a" given twice`},
		{"duplicate key", `{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, `"dtype" given twice`},
		{"duplicate metadata", `{"__metadata__":{"k":"1","k":"2"}}`, 0, `"k" given twice`},
		{"two metadata", `{"__metadata__":{},"__metadata__":{}}`, 0, `"__metadata__" given twice`},
		{"metadata number", `{"__metadata__":{"k":1}}`, 0, `__metadata__ "k" is not a string`},
		{"metadata null", `{"__metadata__":null}`, 0, `want '{'`},
		{"unknown key", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}`, 1, `unknown key "x"`},
		{"missing key", `{"a":{"dtype":"U8","shape":[1]}}`, 1, "2 of the 3 keys"},
		{"tensor is null", `{"a":null}`, 0, `tensor "a"`},

		{"begin after end", one(`"U8"`, `[1]`, `[1,0]`), 1, "end before they begin"},
		{"past the end", one(`"U8"`, `[2]`, `[0,2]`), 1, "exceed the 1 bytes of data"},
		{"negative offset", one(`"U8"`, `[1]`, `[-1,0]`), 1, "-1 is not a natural number"},
		{"negative zero", one(`"U8"`, `[0]`, `[-0,0]`), 0, "-0 is not a natural number"},
		{"fraction", one(`"U8"`, `[1.0]`, `[0,1]`), 1, "1.0 is not a natural number"},
		{"exponent", one(`"U8"`, `[1]`, `[0,1e0]`), 1, "1e0 is not a natural number"},
		{"leading zero", one(`"U8"`, `[01]`, `[0,1]`), 1, "want ','"},
		{"number too large", one(`"U8"`, `[18446744073709551616]`, `[0,0]`), 0, "not a natural number"},
		{"number as string", one(`"U8"`, `["1"]`, `[0,1]`), 1, "want a number"},
		{"one offset", one(`"U8"`, `[1]`, `[0]`), 1, "1 numbers instead of 2"},
		{"three offsets", one(`"U8"`, `[1]`, `[0,1,1]`), 1, "more than 2 numbers"},
		{"shape is null", one(`"U8"`, `null`, `[0,1]`), 1, "want an array"},

		{"overlap", `{` + tensorA + `,"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}`, 24, `"b": data_offsets [8, 24] overlap "a"`},
		{"same place", `{` + tensorA + `,"b":{"dtype":"BF16","shape":[6],"data_offsets":[0,12]}}`, 12, "overlap"},
		{"hole", `{` + tensorA + `,"b":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}`, 32, "hole of 4 bytes"},
		{"hole in front", one(`"U8"`, `[1]`, `[1,2]`), 2, "hole of 1 bytes after the header"},
		{"tail", "{" + tensorA + "}", 13, `1 bytes after "a" belong to no tensor`},
		{"data without tensors", "{}", 1, "belong to no tensor"},
		{"cut short", "{" + tensorA + "," + tensorB + "}", 27, "cut short"},

		{"shape overflows", one(`"U8"`, `[4294967296,4294967296]`, `[0,0]`), 0, "overflows"},
		{"shape overflows by dtype", one(`"F32"`, `[4611686018427387904]`, `[0,0]`), 0, "overflows"},
		{"empty and huge", one(`"U8"`, `[0,18446744073709551615,18446744073709551615]`, `[0,0]`), 0, "overflows"},
		{"empty and beyond int64", one(`"U8"`, `[0,9223372036854775808]`, `[0,0]`), 0, "overflows"},
		{"rank 9", one(`"U8"`, `[1,1,1,1,1,1,1,1,1]`, `[0,1]`), 1, "more than 8 numbers"},
		{"size too small", one(`"F32"`, `[2]`, `[0,4]`), 4, "needs 8 bytes"},
		{"size too large", one(`"F16"`, `[1]`, `[0,4]`), 4, "needs 2 bytes"},
		{"F8", one(`"F8_E4M3"`, `[4]`, `[0,4]`), 4, `"F8_E4M3" not supported; weights must be F32, BF16, F16`},
		{"lower case dtype", one(`"f32"`, `[1]`, `[0,4]`), 4, `"f32" not supported`},
		{"dtype is a number", one(`1`, `[1]`, `[0,1]`), 1, "dtype is not a string"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := safetensorsFile(test.header, test.data)
			err := checkHeader(file)
			if test.want != "" {
				wantError(t, err, test.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := safetensors.Deserialize(file); err != nil {
				t.Errorf("the parser refuses what the check lets through: %v", err)
			}
		})
	}
}

func TestCheckHeaderLength(t *testing.T) {
	for n := range 8 {
		wantError(t, checkHeader(make([]byte, n)), "header too small", fmt.Sprint(n))
	}
	for _, test := range []struct {
		length uint64
		want   string
	}{
		{1, "exceeds the file's"},
		{1 << 20, "exceeds the file's"},
		{100_000_000, "exceeds the file's"},
		{100_000_001, "exceeds the 100000000"},
		{1 << 63, "exceeds the 100000000"},
		{1<<64 - 8, "exceeds the 100000000"}, // wraps to 0 when 8 is added
		{1<<64 - 1, "exceeds the 100000000"},
	} {
		wantError(t, checkHeader(binary.LittleEndian.AppendUint64(nil, test.length)), test.want)
	}
}

// TestCheckHeaderMemory holds the check to memory in proportion to the header, on the shapes that cost it most.
func TestCheckHeaderMemory(t *testing.T) {
	var names strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&names, `"%d":"",`, i)
	}
	for name, header := range map[string]string{
		"names":    `{"__metadata__":{` + strings.TrimSuffix(names.String(), ",") + `}}`,
		"brackets": "{" + strings.Repeat("[", 1<<20),
		"string":   `{"` + strings.Repeat("x", 1<<20),
		"commas":   "{" + strings.Repeat(",", 1<<20),
	} {
		file := safetensorsFile(header, 0)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = checkHeader(file)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 32*uint64(len(file)) {
			t.Errorf("%s: %d bytes allocated for a header of %d", name, used, len(file))
		}
	}
}
