package terminal

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
)

// well is a run in which nothing is to be hinted at.
func well() *pipeline.Summary {
	return &pipeline.Summary{
		State: "done", In: 100, Out: 60, Written: 60, Seconds: 100, Decoded: 100, DecodedJPEG: 100,
		Rejected: map[string]map[string]int64{"filter": {"ic9600 > 0.5": 40}},
		Stages: []pipeline.StageSummary{
			{ID: "filter", In: 100, Rejected: 40, Out: 60, Seconds: 1, Workers: 4, Most: 8},
			{ID: "write", In: 60, Out: 60, Seconds: 40, Workers: 1, Most: 1},
		},
		Devices:    []pipeline.DeviceUsage{{Device: "gpu:0", Limit: 1 << 30}, {Device: "host", Limit: 400 << 20}},
		OutputDirs: []string{"out"},
	}
}

func failures(n int, cause func(i int) string) (all []pipeline.FailedItem) {
	for i := range n {
		all = append(all, pipeline.FailedItem{ID: fmt.Sprintf("sub/%d.jpg", i), Stage: "score", Cause: cause(i)})
	}
	return all
}

func TestHints(t *testing.T) {
	const (
		allAlike       = "20 of the first 20 quarantined items failed alike, as sub/0.jpg in score: no room; mend that, and run again: only they are computed"
		nothingWritten = "nothing was written, as no stage writes: add one, for example - write: {path: out, format: png}"
	)
	noTurbo := errors.New("it is not there")
	for _, tt := range []struct {
		name    string
		change  func(*pipeline.Summary)
		machine Machine
		want    []string
	}{
		{"all is well", func(*pipeline.Summary) {}, Machine{Cores: 8}, nil},
		{"one stage rejects all", func(s *pipeline.Summary) {
			s.Out, s.Rejected["filter"]["ic9600 > 0.5"] = 0, 100
			s.Stages[0].Rejected, s.Stages[0].Out = 100, 0
		}, Machine{}, []string{"filter rejected all that reached it, 100 items (ic9600 > 0.5): --verbose prints each with its values; then change the stage, and run again"}},
		{"one does, and the run is on record", func(s *pipeline.Summary) {
			s.StateDir, s.Out, s.Stages[0].Rejected = "/a b/out/.forgepipe", 0, 100
		}, Machine{}, []string{"filter rejected all that reached it, 100 items (ic9600 > 0.5): forgepipe report '/a b/out' --kind rejected --stage filter --list prints each with its values; then change the stage, and run again"}},
		{"several do together, and the run is on record", func(s *pipeline.Summary) {
			s.StateDir, s.Out, s.Quarantined, s.Rejected["write"] = "/state", 0, 10, map[string]int64{"x": 50}
		}, Machine{}, []string{"nothing reached the end of the chain: 90 rejected, 10 quarantined; the lines above say by which stage, and forgepipe report /state --kind rejected --list prints each"}},
		{"it does, but is not through", func(s *pipeline.Summary) { s.State, s.Out, s.Stages[0].Rejected = "interrupted", 0, 100 }, Machine{}, nil},
		{"for several reasons", func(s *pipeline.Summary) {
			s.Out, s.Rejected["filter"]["too small"], s.Stages[0].Rejected = 0, 60, 100
		}, Machine{}, []string{"filter rejected all that reached it, 100 items (2 reasons): --verbose prints each with its values; then change the stage, and run again"}},
		{"several stages reject all together", func(s *pipeline.Summary) {
			s.Out, s.Quarantined, s.Rejected["write"] = 0, 10, map[string]int64{"x": 50}
		}, Machine{}, []string{"nothing reached the end of the chain: 90 rejected, 10 quarantined; the lines above say by which stage, and --verbose prints each"}},
		{"there was nothing", func(s *pipeline.Summary) { *s = pipeline.Summary{State: "done", OutputDirs: []string{"out"}} }, Machine{}, nil},
		{"most fail alike", func(s *pipeline.Summary) {
			s.Quarantined = 9
			s.Failed = append(failures(4, func(i int) string { return strings.Repeat("other ", i) }),
				failures(5, func(i int) string { return fmt.Sprintf("reading %d.jpg: byte %d is wrong\nstack", i, 100*i) })...)
		}, Machine{}, []string{"5 of 9 quarantined items failed alike, as sub/0.jpg in score: reading 0.jpg: byte 0 is wrong; mend that, and run again: only they are computed"}},
		{"of very many only the first are known", func(s *pipeline.Summary) {
			s.Quarantined = 1000
			s.Failed = failures(20, func(int) string { return "no room" })
		}, Machine{}, []string{allAlike}},
		{"few fail alike", func(s *pipeline.Summary) {
			s.Quarantined = 4
			s.Failed = failures(4, func(int) string { return "no room" })
		}, Machine{}, nil},
		{"all fail differently", func(s *pipeline.Summary) {
			s.Quarantined = 10
			s.Failed = failures(10, func(i int) string { return strings.Repeat("x", i) })
		}, Machine{}, nil},
		{"all fail alike, and nothing comes out", func(s *pipeline.Summary) {
			s.Out, s.Quarantined, s.Failed = 0, 100, failures(20, func(int) string { return "no room" })
		}, Machine{}, []string{allAlike}},
		{"no stage writes", func(s *pipeline.Summary) { s.OutputDirs, s.Written = nil, 0 }, Machine{}, []string{nothingWritten}},
		{"all was written before", func(s *pipeline.Summary) { s.Written, s.Reused = 0, 60 }, Machine{}, nil},
		{"pictures are parked", func(s *pipeline.Summary) {
			s.Parked = pipeline.Parked{Pictures: 20, Dropped: 3 << 20, Spilled: 1 << 20}
		}, Machine{},
			[]string{"for want of memory, waiting pictures were taken out of it 20 times (3 MiB to be decoded or made again, 1 MiB written to disk): raise memory.host.limit in the pipeline (pictures and calls had 400 MiB), or give the stages fewer workers"}},
		{"some are", func(s *pipeline.Summary) { s.Parked.Pictures = 19 }, Machine{}, nil},
		{"20 of very many are", func(s *pipeline.Summary) { s.Parked.Pictures, s.Decoded = 20, 201 }, Machine{}, nil},
		{"JPEG is slow", func(*pipeline.Summary) {}, Machine{NoJPEG: noTurbo}, []string{"100 JPEG files were decoded without libturbojpeg, which is about five times faster: apt-get install libturbojpeg0; forgepipe doctor says why it is not used"}},
		{"JPEG would be slow", func(s *pipeline.Summary) { s.DecodedJPEG = 49 }, Machine{NoJPEG: noTurbo}, nil},
		{"one worker holds up", func(s *pipeline.Summary) { s.Stages[1].Seconds = 70 }, Machine{Cores: 8},
			[]string{"write was busy for 70 % of the time with the one worker that it may have, on 8 cores: leave workers: 1 out of the stage, or raise it"}},
		{"one worker holds up others that do more together", func(s *pipeline.Summary) { s.Stages[0].Seconds, s.Stages[1].Seconds = 100, 70 }, Machine{Cores: 8},
			[]string{"write was busy for 70 % of the time with the one worker that it may have, on 8 cores: leave workers: 1 out of the stage, or raise it"}},
		{"no core has time for another", func(s *pipeline.Summary) { s.Stages[0].Seconds, s.Stages[1].Seconds = 160, 90 }, Machine{Cores: 3}, nil},
		{"on one core", func(s *pipeline.Summary) { s.Stages[1].Seconds = 70 }, Machine{Cores: 1}, nil},
		{"there cannot be more", func(s *pipeline.Summary) { s.Stages[1].Seconds, s.Stages[1].Serial = 70, true }, Machine{Cores: 8}, nil},
		{"there could be more", func(s *pipeline.Summary) { s.Stages[1].Seconds, s.Stages[1].Most = 70, 2 }, Machine{Cores: 8}, nil},
		{"another stage is busier", func(s *pipeline.Summary) { s.Stages[0].Seconds, s.Stages[1].Seconds = 300, 70 }, Machine{Cores: 8}, nil},
		{"it was over soon", func(s *pipeline.Summary) { s.Seconds, s.Stages[1].Seconds = 9, 9 }, Machine{Cores: 8}, nil},
		{"all at once", func(s *pipeline.Summary) {
			s.OutputDirs, s.Parked, s.Stages[1].Seconds = nil, pipeline.Parked{Pictures: 90, Dropped: 1 << 30}, 90
			s.Quarantined, s.Failed = 100, failures(20, func(int) string { return "no room" })
		}, Machine{Cores: 8, NoJPEG: noTurbo}, []string{allAlike, nothingWritten, "for want of memory, waiting pictures were taken out of it 90 times (1 GiB to be decoded or made again): raise memory.host.limit in the pipeline (pictures and calls had 400 MiB), or give the stages fewer workers"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := well()
			tt.change(s)
			got := Hints(s, tt.machine)
			ok := len(got) == len(tt.want)
			for i := range tt.want {
				ok = ok && got[i] == tt.want[i]
			}
			if !ok {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
