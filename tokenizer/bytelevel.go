package tokenizer

import "strings"

// Byte-level BPE writes its tokens in an alphabet of 256 printable letters, one for each
// byte: the printable bytes of Latin-1 stand for themselves, the other 68 take the letters
// from U+0100 on in order (GPT-2's bytes_to_unicode).

// letters returns the letter of each byte.
func letters() (alphabet [256]rune) {
	next := rune(0x100)
	for b := range rune(256) {
		if '!' <= b && b <= '~' || 0xA1 <= b && b <= 0xAC || 0xAE <= b {
			alphabet[b] = b
		} else {
			alphabet[b] = next
			next++
		}
	}
	return alphabet
}

// byteOf returns the inverse of letters.
func byteOf() map[rune]byte {
	inverse := make(map[rune]byte, 256)
	for b, letter := range letters() {
		inverse[letter] = byte(b)
	}
	return inverse
}

// tokenBytes returns the bytes that a token stands for. As in the tokenizers library, a
// token with a character outside the alphabet (a special token, mostly) stands for itself.
func tokenBytes(token string, inverse map[rune]byte) string {
	var b strings.Builder
	b.Grow(len(token))
	for _, r := range token {
		c, ok := inverse[r]
		if !ok {
			return token
		}
		b.WriteByte(c)
	}
	return b.String()
}
