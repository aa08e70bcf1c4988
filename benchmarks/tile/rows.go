package main

import (
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
)

//go:embed sharp
var sharpFiles embed.FS

// contenders returns the rows, forgepipe first, and notes on versions and on
// what had to be left out.
func contenders(dir string) ([]*row, []string, error) {
	pin := proc.Pin(threads)
	command := func(name string, args ...string) *exec.Cmd {
		line := append(append(append([]string{}, pin...), name), args...)
		return exec.Command(line[0], line[1:]...)
	}
	forgepipe, version, err := proc.Forgepipe()
	if err != nil {
		return nil, nil, err
	}
	pipeline := filepath.Join("benchmarks", "tile", "tiles.yaml")
	rows := []*row{{
		name: "forgepipe", how: "`forgepipe run " + pipeline + "`, with its run store; level 1, filter Up",
		ways: []way{{"as it is", func(in, out string) (proc.Usage, error) {
			return proc.Run(1, []*exec.Cmd{command(forgepipe, "run", pipeline, "--set", "INPUT="+in, "--set", "OUT="+out,
				"--cache", filepath.Join(out, ".forgepipe", "cache"))}) // as empty as on pictures that are new

		}}},
		tile: named,
	}}
	notes := []string{version}

	if why, err := installSharp(filepath.Join(dir, "sharp")); err != nil {
		return nil, nil, err
	} else if why != "" {
		notes = append(notes, "sharp is left out: "+why)
	} else {
		script := filepath.Join(dir, "sharp", "tile.mjs")
		notes = append(notes, proc.Output("node", script))
		rows = append(rows, sharpRows(command, script)...)
	}

	if v := proc.Output("vips", "--version"); v == "" {
		notes = append(notes, "vips dzsave is left out, as there is no vips: apt-get install libvips-tools")
	} else {
		notes = append(notes, v+" (Debian libvips-tools "+proc.Output("dpkg-query", "-W", "-f", "${Version}", "libvips-tools")+
			", libjpeg62-turbo "+proc.Output("dpkg-query", "-W", "-f", "${Version}", "libjpeg62-turbo")+")")
		rows = append(rows, vipsRows(command)...)
	}

	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	for _, level := range []string{"default", "BestSpeed"} {
		rows = append(rows, &row{
			name: "imaging + standard library, " + level, how: "image/jpeg, imaging.Crop, image/png with png." + pngLevels[level].name + "; an image per goroutine, 2 goroutines",
			ways: []way{{"2 goroutines", func(in, out string) (proc.Usage, error) {
				return proc.Run(1, []*exec.Cmd{command(self, "-imaging", level, "-in", in, "-out", out)})
			}}},
			tile: named,
		})
	}
	return rows, notes, nil
}

func named(stem string, x, y int) string { return fmt.Sprintf("%s_x%d_y%d.png", stem, x, y) }

// google is the layout of that name: zoom (there is one), row, column.
func google(stem string, x, y int) string {
	return filepath.Join(stem, "0", fmt.Sprint(y/size), fmt.Sprint(x/size)+".png")
}

type commander = func(name string, args ...string) *exec.Cmd

// sharpRows are tiles of decoded pixels, and libvips's tiler as sharp offers it.
func sharpRows(command commander, script string) []*row {
	var rows []*row
	add := func(kind, name, how, level, adaptive string, images [][2]int, tile func(string, int, int) string, like *row) *row {
		filter := map[string]string{"0": "no filter", "1": "adaptive filter"}[adaptive]
		r := &row{name: fmt.Sprintf("%s, level %s, %s", name, level, filter), how: how, tile: tile, like: like, equal: level == "1" && adaptive == "1"}
		for _, n := range images {
			r.ways = append(r.ways, way{
				fmt.Sprintf("%d images at once, sharp.concurrency(%d)", n[0], n[1]),
				func(in, out string) (proc.Usage, error) {
					return proc.Run(1, []*exec.Cmd{command("node", script, kind, level, adaptive, fmt.Sprint(n[0]), fmt.Sprint(n[1]), in, out)})
				},
			})
		}
		rows = append(rows, r)
		return r
	}
	each := func(level, adaptive string, like *row) *row {
		return add("raw", "sharp", "`sharp(file).raw()` once an image, then `sharp(pixels).extract().png().toFile()` for each tile", level, adaptive, [][2]int{{2, 1}, {1, 1}, {2, 2}}, named, like)
	}
	tiler := func(level, adaptive string, like *row) *row {
		return add("dz", "sharp .tile()", "`sharp(file).extract(grid).png().tile({size: 512, overlap: 0, depth: 'one', layout: 'google'})`", level, adaptive, [][2]int{{2, 1}, {1, 2}, {2, 2}}, google, like)
	}
	first := each("1", "0", nil)
	each("1", "1", first)
	each("6", "0", first)
	each("6", "1", first)
	tiler("1", "1", tiler("1", "0", nil))
	return rows
}

// vipsRows are libvips's tiler from the command line, at three settings.
func vipsRows(command commander) []*row {
	var rows []*row
	var first *row
	for _, suffix := range []string{".png[compression=1]", ".png[compression=1,filter=up]", ".png[compression=6]"} {
		line := func(input, output string) []string {
			return []string{"dzsave", input, output, "--layout", "google", "--tile-size", fmt.Sprint(size), "--overlap", "0", "--depth", "one", "--skip-blanks", "-1", "--suffix", suffix}
		}
		r := &row{name: "vips dzsave " + suffix, how: "`vips " + strings.Join(line("IN", "OUT"), " ") + "`, which also writes the tiles that the border cuts", tile: google, like: first, equal: strings.Contains(suffix, "filter=up")}
		for _, n := range [][2]int{{2, 1}, {1, 2}} {
			r.ways = append(r.ways, way{
				fmt.Sprintf("%d images at once, VIPS_CONCURRENCY=%d", n[0], n[1]),
				func(in, out string) (proc.Usage, error) {
					entries, err := os.ReadDir(in)
					if err != nil {
						return proc.Usage{}, err
					}
					var cmds []*exec.Cmd
					for _, e := range entries {
						c := command("vips", line(filepath.Join(in, e.Name()), filepath.Join(out, strings.TrimSuffix(e.Name(), ".jpg")))...)
						c.Env = append(os.Environ(), fmt.Sprintf("VIPS_CONCURRENCY=%d", n[1]))
						cmds = append(cmds, c)
					}
					return proc.Run(n[0], cmds)
				},
			})
		}
		if first == nil {
			first = r
		}
		rows = append(rows, r)
	}
	return rows
}

// installSharp puts the scripts and the pinned sharp into dir. It returns what
// is missing, if anything is.
func installSharp(dir string) (missing string, err error) {
	if _, err := exec.LookPath("npm"); err != nil {
		return "there is no npm: apt-get install nodejs npm (or nodejs from nodejs.org, version 20 or newer)", nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	files, err := sharpFiles.ReadDir("sharp")
	if err != nil {
		return "", err
	}
	fresh := false
	for _, f := range files {
		b, err := sharpFiles.ReadFile("sharp/" + f.Name())
		if err != nil {
			return "", err
		}
		to := filepath.Join(dir, f.Name())
		if old, err := os.ReadFile(to); f.Name() == "package-lock.json" && (err != nil || string(old) != string(b)) {
			fresh = true
		}
		if err := os.WriteFile(to, b, 0o666); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "sharp")); err == nil && !fresh {
		return "", nil
	}
	c := exec.Command("npm", "ci", "--no-audit", "--no-fund")
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Sprintf("npm ci in %s failed (%v): %s", dir, err, oneLine(string(out))), nil
	}
	return "", nil
}

func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(s, "\n", "; ")), " ")
}
