// Command governor measures how well the governor of memory chooses batch sizes:
// against the best that never changes, and against what people do instead.
//
// Networks work on simulated cards, in simulated time, while neighbours come and go.
//
//	make bench-governor
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/benchmarks/internal/record"
)

func main() {
	file := flag.String("record", "", "Markdown file to write the results into")
	images := flag.String("images", "", "folder to write pictures of the drives into, as SVG")
	seeds := flag.Int("seeds", 5, "simulated drives of each kind")
	flag.Parse()
	if err := bench(*file, *images, *seeds); err != nil {
		fmt.Fprintln(os.Stderr, "governor benchmark:", err)
		os.Exit(1)
	}
}

func bench(file, images string, seeds int) error {
	if file != "" && images == "" {
		return errors.New("-record wants -images")
	}
	var below string // the images, from where they are linked
	if file != "" {
		var err error
		if below, err = filepath.Rel(filepath.Dir(file), images); err != nil {
			return err
		}
	}
	var body strings.Builder
	simulated, err := measureSimulated(seeds)
	if err != nil {
		return err
	}
	body.WriteString(reportSimulated(simulated, seeds, below))
	if err := draw(images, "simulated", simulated); err != nil {
		return err
	}
	fmt.Println(body.String())
	if file == "" {
		return nil
	}
	return record.Section(file, "Governor of memory", "make bench-governor", body.String())
}

// draw writes the pictures of a part, if there is a folder for them.
func draw(dir, part string, tables []table) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	for _, t := range tables {
		svg := picture(t.w.title()+" ("+part+")", t.shows(), t.panels(), t.w.lasts)
		if err := os.WriteFile(filepath.Join(dir, t.picture(part)), []byte(svg), 0o666); err != nil {
			return err
		}
	}
	return nil
}
