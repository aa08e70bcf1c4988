package pipeline

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
)

func parseNumber(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("wants a number, not %q", s)
	}
	return v, nil
}

func parseWhole(s string) (float64, error) {
	v, err := strconv.ParseInt(s, 10, 53)
	if err != nil || v < 0 {
		return 0, fmt.Errorf("wants a whole number from 0 on, not %q", s)
	}
	return float64(v), nil
}

func parseCounted(s string) (float64, error) {
	v, err := parseWhole(s)
	if err != nil {
		err = fmt.Errorf("wants all, any, none, a whole number or {min: 1, max: 2}, not %q", s)
	}
	return v, err
}

func parseSize(s string) (float64, error) {
	v, err := memory.ParseBytes(s)
	return float64(v), err
}

func parseTrue(s string) (bool, error) {
	if s != "true" {
		return false, fmt.Errorf("wants true, not %q: leave out what may be there and may not", s)
	}
	return true, nil
}

func parseNonEmpty(s string) (string, error) {
	if s == "" {
		return "", errors.New("must not be empty")
	}
	return s, nil
}

func parseEnd(s string) (CaseEnd, error) {
	var ends []string
	for _, e := range CaseEnds {
		ends = append(ends, string(e))
	}
	if !slices.Contains(ends, s) {
		return "", fmt.Errorf("%q is none of %s%s", s, strings.Join(ends, ", "), didYouMean(s, ends))
	}
	return CaseEnd(s), nil
}

func parseFormat(s string) (string, error) {
	formats := []string{string(imageio.BMP), string(imageio.GIF), string(imageio.JPEG), string(imageio.PNG), string(imageio.TIFF), string(imageio.WebP)}
	if !slices.Contains(formats, s) {
		return "", fmt.Errorf("%q is none of %s%s", s, strings.Join(formats, ", "), didYouMean(s, formats))
	}
	return s, nil
}
