package tokenizer

import (
	"fmt"
	"strings"
	"time"
)

// strftime formats a time as Python's datetime.strftime does in the C locale.
func strftime(format string, t time.Time) (string, error) {
	layouts := map[byte]string{
		'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'c': "Mon Jan _2 15:04:05 2006",
		'd': "02", 'D': "01/02/06", 'e': "_2", 'F': "2006-01-02", 'h': "Jan", 'H': "15", 'I': "03",
		'm': "01", 'M': "04", 'p': "PM", 'S': "05", 'T': "15:04:05", 'x': "01/02/06",
		'X': "15:04:05", 'y': "06", 'Y': "2006", 'Z': "", 'z': "",
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		i++
		if i < len(format) && format[i] == '-' { // no leading zero
			i++
			if i < len(format) && strings.IndexByte("dmHIMSjy", format[i]) >= 0 {
				s, err := strftime("%"+format[i:i+1], t)
				if err != nil {
					return "", err
				}
				if s = strings.TrimLeft(s, "0"); s == "" {
					s = "0"
				}
				b.WriteString(s)
				continue
			}
		}
		if i == len(format) {
			return "", fmt.Errorf("strftime_now: %q ends in the middle of a directive", format)
		}
		layout, ok := layouts[format[i]]
		switch {
		case ok:
			if layout != "" { // a time without zone has no %Z and %z
				b.WriteString(t.Format(layout))
			}
		case format[i] == 'j':
			fmt.Fprintf(&b, "%03d", t.YearDay())
		case format[i] == 'f':
			fmt.Fprintf(&b, "%06d", t.Nanosecond()/1000)
		case format[i] == 'w':
			fmt.Fprintf(&b, "%d", int(t.Weekday()))
		case format[i] == 'u':
			fmt.Fprintf(&b, "%d", (int(t.Weekday())+6)%7+1)
		case format[i] == 'n':
			b.WriteByte('\n')
		case format[i] == 't':
			b.WriteByte('\t')
		case format[i] == '%':
			b.WriteByte('%')
		default:
			return "", fmt.Errorf("strftime_now: directive %%%c is not supported", format[i])
		}
	}
	return b.String(), nil
}
