package unit

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// processor is the name of the quantity that is counted in thousandths.
const processor = "cpu"

// multiples are the suffixes of amounts, as systemd has them.
var multiples = map[byte]int64{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40, 'P': 1 << 50}

// ParseQuantities reads amounts such as "memory=2G cpu=500m gpu=1", separated by blanks or
// commas, and gives them sorted by name. Of one name the last counts. Amounts are whole
// numbers, or multiples with K, M, G, T or P (of 1024); those of cpu are processors, or
// thousandths of one with m.
func ParseQuantities(s string) ([]Quantity, error) {
	var list []Quantity
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
		name, amount, found := strings.Cut(word, "=")
		if !found || name == "" {
			return nil, fmt.Errorf("%q: want NAME=AMOUNT, such as memory=2G", word)
		}
		n, err := parseAmount(name, amount)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", word, err)
		}
		list = setQuantity(list, Quantity{name, n})
	}
	return list, nil
}

func setQuantity(list []Quantity, q Quantity) []Quantity {
	at, found := slices.BinarySearchFunc(list, q.Name, func(a Quantity, name string) int { return strings.Compare(a.Name, name) })
	if found {
		list[at] = q
		return list
	}
	return slices.Insert(list, at, q)
}

func parseAmount(name, s string) (int64, error) {
	factor := int64(1)
	if name == processor {
		factor = 1000
	}
	digits := s
	if s != "" {
		last := s[len(s)-1]
		switch multiple := multiples[last]; {
		case last == 'm' && name == processor:
			digits, factor = s[:len(s)-1], 1
		case multiple != 0 && name != processor:
			digits, factor = s[:len(s)-1], multiple
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/factor {
		if name == processor {
			return 0, fmt.Errorf("want a number of processors, or of thousandths such as 500m")
		}
		return 0, fmt.Errorf("want a whole number, or one with K, M, G, T or P")
	}
	return int64(n) * factor, nil
}

// String gives the quantity as it may be written.
func (q Quantity) String() string { return q.Name + "=" + ShowAmount(q.Name, q.Amount) }

// ShowAmount gives an amount of something as it may be written, in the largest multiple
// that is exact.
func ShowAmount(name string, amount int64) string {
	if name == processor {
		if amount%1000 == 0 {
			return strconv.FormatInt(amount/1000, 10)
		}
		return strconv.FormatInt(amount, 10) + "m"
	}
	for _, suffix := range "PTGMK" {
		if m := multiples[byte(suffix)]; amount != 0 && amount%m == 0 {
			return strconv.FormatInt(amount/m, 10) + string(suffix)
		}
	}
	return strconv.FormatInt(amount, 10)
}

// ShowQuantities gives a list as ParseQuantities reads it.
func ShowQuantities(list []Quantity) string {
	var words []string
	for _, q := range list {
		words = append(words, q.String())
	}
	return strings.Join(words, " ")
}
