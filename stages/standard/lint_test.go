package standard_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

var update = flag.Bool("update", false, "rewrite the expected problems")

// Each file under testdata/lint holds a wrong pipeline, a line "----", and the
// problems that lint finds in it.
func TestLintFindsWhatIsWrong(t *testing.T) {
	files, err := filepath.Glob("testdata/lint/*.txt")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			yaml, want, _ := bytes.Cut(data, []byte("----\n"))
			_, err = pipeline.Load(t.Context(), "pipeline.yaml", yaml, pipeline.Options{Registry: standard.Registry()})
			var se *pipeline.SpecError
			if !errors.As(err, &se) {
				t.Fatalf("lint says %v", err)
			}
			wd, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			got := strings.ReplaceAll(se.Error(), wd, "$PWD") + "\n"
			if *update {
				if err := os.WriteFile(file, []byte(string(yaml)+"----\n"+got), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("lint says\n%swant\n%s", got, want)
			}
		})
	}
}

func TestLintRefusesAHugeFile(t *testing.T) {
	data := append([]byte("name: x\n"), bytes.Repeat([]byte("# padding\n"), 1<<20)...)
	_, err := pipeline.Load(t.Context(), "big.yaml", data, pipeline.Options{Registry: standard.Registry()})
	if err == nil || !strings.HasPrefix(err.Error(), "big.yaml:1:1: the file has 10485768 bytes") {
		t.Errorf("lint says %v", err)
	}
}
