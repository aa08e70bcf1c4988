//go:build soak

package filter_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// published saves the network of a published architecture with random weights, of which
// the one of that name is shifted.
func published(t *testing.T, architecture, bias string, shift float64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), architecture+".onnx")
	weights := stagetest.Checkpoint(t, architecture, map[string]float64{bias: shift})
	defer os.Remove(weights)
	if _, err := model.Convert(t.Context(), path, model.ConvertOptions{}, weights); err != nil {
		t.Fatal(err)
	}
	return path
}

// The preset on 100 photographs, with networks of the true architectures whose last bias
// is such that half of the photographs pass: it decides as a script of the published rule
// does, with at most 55 % of its forwards.
func TestSoakBHI(t *testing.T) {
	const complexityBias, qualityBias = "head.2.bias", "fc5b_fc.bias"
	dir := tiles(t, 100, 288)
	began := time.Now()
	p := script(t, dir, networks{published(t, "icnet", complexityBias, 0), published(t, "hyperiqa", qualityBias, 0)})
	took := time.Since(began)

	// A bias is added to all values alike: to those of IC9600 before the sigmoid.
	logit := func(x float64) float64 { return math.Log(x / (1 - x)) }
	ic := logit(0.4) - logit(between(p.ic9600, 1, 2))
	quality := 0.2 - between(p.hyperiqa, 1, 2)
	for i := range p.names {
		p.ic9600[i] = 1 / (1 + math.Exp(-logit(p.ic9600[i])-ic))
		p.hyperiqa[i] += quality
	}
	nets := networks{published(t, "icnet", complexityBias, ic), published(t, "hyperiqa", qualityBias, quality)}

	began = time.Now()
	s, kept, rejected := preset(t, dir, t.TempDir(), nets, "")
	asPlain(t, p, kept, rejected, 30, 0.4, 0.2)
	by := map[string]int{}
	for _, stage := range rejected {
		by[stage]++
	}
	n := forwards(s)
	t.Logf("%d kept, rejected %v; %d forwards of %d (%.0f %%), %s of %s", len(kept), by, n, p.forwards, 100*float64(n)/float64(p.forwards),
		time.Since(began).Round(time.Second), took.Round(time.Second))
	if n*100 > 55*p.forwards {
		t.Error(fmt.Sprint("these are more than 55 % of ", p.forwards))
	}
}
