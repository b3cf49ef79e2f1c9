package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// formatSeconds formats a duration in seconds for people: 3.2s, 42s, 1m05s,
// 2h03m.
func formatSeconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// formatAgo formats how long ago t was: "5 min ago", and from two days on its
// local date. The zero time is empty.
func formatAgo(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return t.Local().Format("2006-01-02")
}

// formatMetric formats a metric for a table, with six significant digits.
func formatMetric(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// formatExact formats a float64 with as many digits as identify it, for CSV
// and wherever values are compared bit for bit.
func formatExact(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// formatCount formats a number of things, or FLOPs, with three digits and an
// SI prefix: 1234567 is "1.23 M". A unit may follow directly.
func formatCount(n float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e18, " E"}, {1e15, " P"}, {1e12, " T"}, {1e9, " G"}, {1e6, " M"}, {1e3, " k"}} {
		if n >= unit.size {
			return fmt.Sprintf("%.3g%s", n/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%.0f", n)
}

// digits formats an int64 in decimal.
func digits(n int64) string { return strconv.FormatInt(n, 10) }

// ifKnown formats *v, or returns "" where v is nil.
func ifKnown[T any](v *T, print func(T) string) string {
	if v == nil {
		return ""
	}
	return print(*v)
}

// orUnknown formats *v, or returns "unknown" where v is nil.
func orUnknown[T any](v *T, print func(T) string) string {
	if v == nil {
		return "unknown"
	}
	return print(*v)
}

// formatFLOPs formats a number of floating-point operations: "1.2 TFLOPs".
func formatFLOPs(n float64) string {
	if n < 1000 {
		return formatCount(n) + " FLOPs"
	}
	return formatCount(n) + "FLOPs" // formatCount ends with the SI prefix
}

// formatBytes formats a size in bytes with three digits and a decimal prefix:
// 1 KB is 1000 bytes.
func formatBytes(n int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB", "PB"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.3g %s", v, units[i])
}

// formatLongTime formats a duration in seconds that may be centuries: the
// plan of a 175B model on a laptop is in years.
func formatLongTime(s float64) string {
	const day, year = 86400, 365.25 * 86400
	switch {
	case s < 100*3600:
		return formatSeconds(s)
	case s < 2*year:
		return fmt.Sprintf("%.0f days", s/day)
	}
	return fmt.Sprintf("%s years", strings.TrimSpace(formatCount(s/year)))
}

// unknownIfZero returns text, or "?" where v is 0: not measured.
func unknownIfZero[T int64 | float64](v T, text string) string {
	if v == 0 {
		return "?"
	}
	return text
}

// formatPercent formats a share of 1 as a percentage with one decimal.
func formatPercent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

// formatAge formats the age of a file in seconds: in hours, and from two days
// on in days.
func formatAge(seconds float64) string {
	if d := seconds / (24 * 3600); d >= 2 {
		return fmt.Sprintf("%.0f days", d)
	}
	return fmt.Sprintf("%.1f h", seconds/3600)
}

// blankIfZero formats n, or returns "" for 0: a table column that is mostly
// empty is easier to read than one full of zeros.
func blankIfZero(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// withThousands formats 3907 as 3,907.
func withThousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural formats a number of things: "1 item", "3,907 items". The plural is
// formed by adding an s.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return withThousands(n) + " " + thing + "s"
}
