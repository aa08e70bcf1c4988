package pipeline

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// caseSuffixes end the names of files of cases.
var caseSuffixes = []string{".test.yaml", ".test.yml"}

// IsCaseFile tells whether a file is called as files of cases are: NAME.test.yaml
// or NAME.test.yml.
func IsCaseFile(file string) bool {
	_, ok := testedStem(file)
	return ok
}

// CaseFiles are the names that the cases of a pipeline's file can have, the usual
// one first.
func CaseFiles(pipeline string) []string {
	stem := strings.TrimSuffix(pipeline, filepath.Ext(pipeline))
	if filepath.Ext(pipeline) == ".yml" {
		return []string{stem + caseSuffixes[1], stem + caseSuffixes[0]}
	}
	return []string{stem + caseSuffixes[0], stem + caseSuffixes[1]}
}

// testedStem is the name of the pipeline that a file of cases tests, without its
// extension.
func testedStem(file string) (stem string, ok bool) {
	for _, suffix := range caseSuffixes {
		if stem, ok = strings.CutSuffix(file, suffix); ok {
			return stem, true
		}
	}
	return file, false
}

// tested is the pipeline beside a file of cases: that with the same ending, unless
// there is only the other one.
func tested(file string) string {
	stem, _ := testedStem(file)
	names := []string{stem + ".yaml", stem + ".yml"}
	if strings.HasSuffix(file, caseSuffixes[1]) {
		slices.Reverse(names)
	}
	for _, name := range names {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	return names[0]
}
