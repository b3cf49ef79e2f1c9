package recipes

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The numbers of a spec: decimal, and as in JSON, except that the digits on one
// side of the point may be missing. YAML 1.1 has more forms (010 is 8, 1_000 is
// 1000), which people and YAML 1.2 read differently.
var (
	integer = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+]?[0-9]+)?$`)
	digit   = regexp.MustCompile(`[0-9]`)
)

// checkNumber returns what is wrong with a number, and what to do about it;
// both are empty for a valid one. Nothing is rounded: an integer has no point
// and no exponent, and a decimal is kept as the float64 nearest to it, which
// 32-bit computations take as the float32 nearest to that.
func checkNumber(n *yaml.Node, kind reflect.Kind) (wrong, remedy string) {
	text := n.Value
	quoted := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	switch {
	case text == "" || n.Tag == "!!null":
		return "empty", "write a number, or leave the key out for its default"
	case quoted:
		return strconv.Quote(text) + ", which is a string", "write it without quotes"
	case kind == reflect.Float64:
		return checkDecimal(text)
	case kind == reflect.Int, kind == reflect.Uint64:
		return checkInteger(text, kind)
	}
	return "", ""
}

// checkInteger is checkNumber for int and uint64.
func checkInteger(text string, kind reflect.Kind) (wrong, remedy string) {
	if !integer.MatchString(text) {
		return strconv.Quote(text) + ", not a whole number in decimal digits", plainDigits(text)
	}
	var err error
	if kind == reflect.Uint64 {
		if strings.HasPrefix(text, "-") {
			return text + ", not a whole number of at least 0", "write 0 or more"
		}
		_, err = strconv.ParseUint(text, 10, 64)
	} else {
		_, err = strconv.ParseInt(text, 10, 64)
	}
	if err != nil {
		return text + ", which exceeds every limit", "write a smaller number"
	}
	return "", ""
}

// plainDigits returns how to write a number in decimal digits. It states the
// number only if it can be read in just one way: not for hexadecimal, and not
// beyond 2⁵³, where float64 has gaps.
func plainDigits(text string) string {
	const rule = "write only decimal digits, without sign, point, exponent, leading zero or _"
	bare := strings.TrimPrefix(strings.ReplaceAll(text, "_", ""), "+")
	v, err := strconv.ParseFloat(bare, 64)
	if err != nil || strings.HasPrefix(bare, "0x") || !decimal.MatchString(bare) || v != math.Trunc(v) ||
		math.Abs(v) >= 1<<53 {
		return rule
	}
	return fmt.Sprintf("write %s", strconv.FormatFloat(v, 'f', 0, 64))
}

// checkDecimal is checkNumber for float64. A number that is not zero and would
// be zero, or infinite, in 32 bits is refused.
func checkDecimal(text string) (wrong, remedy string) {
	mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
	if !decimal.MatchString(text) || !digit.MatchString(mantissa) {
		return strconv.Quote(text) + ", not a decimal number", "write it as 0.001 or 1e-3"
	}
	v, err := strconv.ParseFloat(text, 64)
	small := float32(v) == 0 && strings.ContainsAny(mantissa, "123456789")
	switch {
	case err != nil || math.IsInf(float64(float32(v)), 0):
		return text + ", which exceeds the range of 32-bit arithmetic", "write a smaller number"
	case small:
		return text + ", which is 0 in 32-bit arithmetic", "write 0, or a number of at least 1e-45"
	}
	return "", ""
}
