package memory_test

import (
	"math"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/memory"
)

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "0B": 0, "1B": 1, "512MiB": 512 * mib, "1.5 GiB": 3 * gib / 2, "2KB": 2000, "3mb": 3e6,
		"1GB": 1e9, "1TB": 1e12, "1TiB": 1024 * gib, " 7 kib ": 7 * kib, ".5KiB": 512, "1.B": 1,
		"9223372036854775807B": math.MaxInt64,
	} {
		if got, err := memory.ParseBytes(text); err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"512": "write for example 512MiB", "1.5": "no unit", "": "write a number", "MiB": "write a number",
		"-1MiB": "write a number", "1e3MiB": "write a number", "0x10B": "write a number", "infB": "write a number",
		"1_000B": "write a number", "1.2.3GB": "write a number", "5 parsecs": "write a number", "60%": "write a number",
		"9223372036854775807KB": "too large", "99999999999999999999B": "too large", "8388608TiB": "too large",
	} {
		if got, err := memory.ParseBytes(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseBytes(%q) = %d, %v; want an error with %q", text, got, err, want)
		}
	}
}

func TestParseShare(t *testing.T) {
	for text, want := range map[string]float64{"60%": 0.6, "0%": 0, "100%": 1, "12.5 %": 0.125} {
		if got, err := memory.ParseShare(text); err != nil || got != want {
			t.Errorf("ParseShare(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"60": "write 60%", "": "write a number", "%": "write a number", "-1%": "write a number",
		"101%": "between", "NaN%": "write a number", "1e1%": "write a number",
	} {
		if got, err := memory.ParseShare(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseShare(%q) = %v, %v; want an error with %q", text, got, err, want)
		}
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", kib: "1 KiB", 3 * gib / 2: "1.5 GiB", 512 * mib: "512 MiB",
		gib - 1: "1 GiB", mib - 1: "1 MiB", 12345678: "11.8 MiB", -3 * gib / 2: "-1.5 GiB",
		math.MaxInt64: "8 EiB", math.MinInt64: "-8 EiB",
	} {
		if got := memory.FormatBytes(n); got != want {
			t.Errorf("FormatBytes(%d) = %q, want %q", n, got, want)
		}
	}
}
