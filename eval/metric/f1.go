package metric

import "strings"

// normalize is normalize_answer of the question answering scorers (from SQuAD's): lower case, no ASCII punctuation, no
// articles; the words that stay.
func normalize(s string) []string {
	s = deletePunctuation(lower(s), "")
	var b strings.Builder
	for s != "" {
		n := strings.IndexFunc(s, wordChar)
		if n < 0 {
			n = len(s)
		}
		b.WriteString(s[:n])
		s = s[n:]
		n = strings.IndexFunc(s, func(r rune) bool { return !wordChar(r) })
		if n < 0 {
			n = len(s)
		}
		switch word := s[:n]; word {
		case "a", "an", "the":
			b.WriteByte(' ')
		default:
			b.WriteString(word)
		}
		s = s[n:]
	}
	return fields(b.String())
}

// chineseMarks are the marks normalize_zh_answer deletes beside string.punctuation. 《 is not among them.
const chineseMarks = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏"

// normalizeChinese is normalize_zh_answer: lower case, no marks, no white space.
func normalizeChinese(s string) string {
	return strings.Join(fields(deletePunctuation(lower(s), chineseMarks)), "")
}

// f1 is the harmonic mean of precision and recall of the tokens of a prediction, as bags; 0 where none agrees.
func f1[T comparable](prediction, answer []T) float64 {
	count := make(map[T]int, len(answer))
	for _, t := range answer {
		count[t]++
	}
	same := 0
	for _, t := range prediction {
		if count[t] > 0 {
			count[t]--
			same++
		}
	}
	if same == 0 {
		return 0
	}
	precision := float64(same) / float64(len(prediction))
	recall := float64(same) / float64(len(answer))
	return 2 * precision * recall / (precision + recall)
}
