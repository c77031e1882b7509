package dataset

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

// readParquet yields a file's rows as JSON objects. Columns are text, numbers, truth values, and lists of those.
func readParquet(path string, yield func(Row) bool) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	defer func() { // the library panics on some malformed files
		if p := recover(); p != nil {
			err = fmt.Errorf("malformed Parquet: %v", p)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := checkFooter(f, info.Size()); err != nil {
		return err
	}
	file, err := parquet.OpenFile(f, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return err
	}
	var unpacked int64
	for _, g := range file.Metadata().RowGroups {
		unpacked += g.TotalByteSize
	}
	if unpacked > maxFileBytes {
		return fmt.Errorf("more than %d bytes unpacked", int64(maxFileBytes))
	}
	columns, err := columnsOf(file.Schema())
	if err != nil {
		return err
	}
	line := 0
	for _, g := range file.RowGroups() {
		if err := readRows(g.Rows(), columns, &line, path, yield); err != nil {
			return err
		}
	}
	return nil
}

// checkFooter reads the length of the metadata at the file's end. The library would allocate whatever is written there.
func checkFooter(f *os.File, size int64) error {
	var tail [8]byte
	if size < 12 {
		return errors.New("too short for Parquet")
	}
	if _, err := f.ReadAt(tail[:], size-8); err != nil {
		return err
	}
	if string(tail[4:]) != "PAR1" {
		return errors.New("no Parquet: it does not end with PAR1")
	}
	if n := int64(binary.LittleEndian.Uint32(tail[:])); n > size-12 {
		return fmt.Errorf("malformed Parquet: metadata of %d bytes in a file of %d", n, size)
	}
	return nil
}

func readRows(rows parquet.Rows, columns []column, line *int, path string, yield func(Row) bool) error {
	defer rows.Close()
	buf := make([]parquet.Row, 8)
	for {
		n, err := rows.ReadRows(buf)
		for _, values := range buf[:n] {
			*line++
			row := Row{Line: *line}
			if row.JSON, row.Err = object(values, columns); row.Err != nil {
				row.Err = fmt.Errorf("%s row %d: %w", path, *line, row.Err)
			}
			if !yield(row) {
				return errStop
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("row %d: %w", *line+1, err)
		}
	}
}

// A column is a leaf of the schema.
type column struct {
	name       string
	list       bool // of values, each at definition level max
	max        int
	null       bool // the list as a whole may be null
	text, bool bool
}

func columnsOf(schema *parquet.Schema) ([]column, error) {
	optional := map[string]bool{}
	for _, f := range schema.Fields() {
		optional[f.Name()] = f.Optional()
	}
	var all []column
	for _, path := range schema.Columns() {
		leaf, ok := schema.Lookup(path...)
		if !ok || len(path) > 3 || leaf.MaxRepetitionLevel > 1 {
			return nil, fmt.Errorf("column %v: want a value or a list of values", path)
		}
		kind := leaf.Node.Type().Kind()
		c := column{
			name: path[0], list: leaf.MaxRepetitionLevel == 1, max: leaf.MaxDefinitionLevel,
			null: optional[path[0]],
			text: kind == parquet.ByteArray, bool: kind == parquet.Boolean,
		}
		if leaf.ColumnIndex != len(all) || !c.list && len(path) > 1 {
			return nil, fmt.Errorf("column %v: want a value or a list of values", path)
		}
		all = append(all, c)
	}
	return all, nil
}

// object makes a row's values a JSON object.
func object(values parquet.Row, columns []column) ([]byte, error) {
	members := make(map[string]any, len(columns))
	for _, v := range values {
		c := columns[v.Column()]
		value, err := c.value(v)
		if err != nil {
			return nil, err
		}
		if !c.list {
			members[c.name] = value
			continue
		}
		list, _ := members[c.name].([]any)
		switch {
		case v.DefinitionLevel() == c.max || value != nil:
			members[c.name] = append(list, value)
		case c.null && v.DefinitionLevel() == 0:
			members[c.name] = nil
		default:
			members[c.name] = []any{}
		}
	}
	return json.Marshal(members)
}

func (c column) value(v parquet.Value) (any, error) {
	switch {
	case v.IsNull():
		return nil, nil
	case c.text:
		if text := string(v.ByteArray()); utf8.ValidString(text) {
			return text, nil
		}
		return nil, fmt.Errorf("%s: not UTF-8 text", c.name)
	case c.bool:
		return v.Boolean(), nil
	case v.Kind() == parquet.Int32 || v.Kind() == parquet.Int64:
		return v.Int64(), nil
	case v.Kind() == parquet.Float || v.Kind() == parquet.Double:
		return v.Double(), nil
	}
	return nil, fmt.Errorf("%s: a value of type %v", c.name, v.Kind())
}
