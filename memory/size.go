package memory

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units in the order in which a suffix must be tried: "KiB" before "B".
var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1},
}

// ParseBytes reads a size such as "512MiB", "1.5 GB" or "0". KiB, MiB, GiB and
// TiB are powers of 1024, KB, MB, GB and TB powers of 1000, and case does not
// matter. A number without a unit is an error, except 0: whether "512" means
// bytes or megabytes is not for us to guess. Fractions of a byte are dropped.
func ParseBytes(s string) (int64, error) {
	text := strings.TrimSpace(s)
	if text == "0" {
		return 0, nil
	}
	for _, u := range units {
		n := len(text) - len(u.name)
		if n < 0 || !strings.EqualFold(text[n:], u.name) {
			continue
		}
		number := strings.TrimSpace(text[:n])
		if !isDecimal(number) {
			break
		}
		if whole, err := strconv.ParseInt(number, 10, 64); err == nil {
			if whole > math.MaxInt64/u.bytes {
				return 0, fmt.Errorf("parsing size %q: it is too large: the limit is 8 EiB", s)
			}
			return whole * u.bytes, nil
		}
		f, err := strconv.ParseFloat(number, 64)
		if err != nil {
			break
		}
		f *= float64(u.bytes)
		if f >= math.MaxInt64 {
			return 0, fmt.Errorf("parsing size %q: it is too large: the limit is 8 EiB", s)
		}
		return int64(f), nil
	}
	if isDecimal(text) {
		return 0, fmt.Errorf("parsing size %q: it has no unit: write for example %sMiB", s, text)
	}
	return 0, fmt.Errorf("parsing size %q: write a number and a unit (B, KB, MB, GB, TB, KiB, MiB, GiB, TiB), for example 512MiB", s)
}

// ParseShare reads a share such as "60%" or "12.5%", from 0% to 100%, as a
// number from 0 to 1.
func ParseShare(s string) (float64, error) {
	text := strings.TrimSpace(s)
	number, ok := strings.CutSuffix(text, "%")
	number = strings.TrimSpace(number)
	if !isDecimal(number) {
		return 0, fmt.Errorf("parsing share %q: write a number and %%, for example 60%%", s)
	}
	if !ok {
		return 0, fmt.Errorf("parsing share %q: it has no %%: write %s%%", s, number)
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f > 100 {
		return 0, fmt.Errorf("parsing share %q: it must lie between 0%% and 100%%", s)
	}
	return f / 100, nil
}

// isDecimal holds off what strconv would accept too: signs, exponents, hex, inf.
func isDecimal(s string) bool {
	digits, points := 0, 0
	for _, c := range s {
		switch {
		case '0' <= c && c <= '9':
			digits++
		case c == '.':
			points++
		default:
			return false
		}
	}
	return digits > 0 && points <= 1
}

// FormatBytes writes a size for people: "0 B", "1.5 GiB", "12 TiB". It keeps one
// decimal below 100 and drops ".0".
func FormatBytes(n int64) string {
	sign, f := "", float64(n)
	if n < 0 {
		sign, f = "-", -f
	}
	names := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	i := 0
	// Anything from 1023.5 on would be written as 1024.
	for f >= 1023.5 && i < len(names)-1 {
		f /= 1024
		i++
	}
	number := strconv.FormatFloat(f, 'f', 1, 64)
	if f >= 99.95 {
		number = strconv.FormatFloat(f, 'f', 0, 64)
	}
	return sign + strings.TrimSuffix(number, ".0") + " " + names[i]
}
