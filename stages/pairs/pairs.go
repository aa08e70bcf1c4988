package pairs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/files"
)

// Info declares the source.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "pairs",
		Short: "High-quality images with their low-quality companions, from two folders.",
		Long: `Offers every image below the folder hq, each with its low-quality companion: the image at the same place below the folder lq, with the same name up to the extension. Data sets that put the scale into the name (0001.png and 0001x4.png) need lq_suffix. What is made of a pair is named after the high-quality image.

A companion is exactly scale times smaller in width and height; a pair that does not fit is quarantined. So is an image without a companion, a companion without an image (under its path relative to hq, ../lq/0001x4.png), and what could belong together in more than one way: of two images a.jpg and a.png the companion a.png belongs to the second; a companion a.webp could belong to either, and both fail.

Both folders are read as images reads one: hidden files and links to folders are not followed but reported, what is not an image is ignored with the reason. Sidecars are those of the high-quality image.`,
		Examples: []pipeline.Example{
			{Doc: "Images and their companions under the same names in two folders.", YAML: "pairs: {hq: ./hq, lq: ./lq, scale: 4}"},
			{Doc: "DIV2K, where 0001.png belongs to 0001x4.png.", YAML: "pairs: {hq: ./DIV2K_train_HR, lq: ./DIV2K_train_LR_bicubic/X4, scale: 4, lq_suffix: x4}"},
		},
		Fields: []pipeline.Field{
			{
				Name: "hq", Type: pipeline.FieldPath, Required: true, Cosmetic: true,
				Doc:      "The folder of the high-quality images.",
				Examples: []string{"./DIV2K_train_HR"},
			},
			{
				Name: "lq", Type: pipeline.FieldPath, Required: true, Cosmetic: true,
				Doc:      "The folder of their low-quality companions. Neither folder may lie in the other.",
				Examples: []string{"./DIV2K_train_LR_bicubic/X4"},
			},
			{
				Name: "scale", Type: pipeline.FieldInt, Unit: "times", Min: 1, Max: 16, Required: true,
				Doc:      "How many times wider and higher than its companion an image is.",
				Examples: []string{"4", "2"},
			},
			{
				Name: "lq_suffix", Type: pipeline.FieldString, Cosmetic: true,
				Doc:      "What follows the image's name, before the extension, in the name of its companion.",
				Examples: []string{"x4", "_LR"},
			},
			files.SidecarsField(),
		},
		NewSource: func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Source, error) {
			return newSource(c)
		},
	}
}

// Source offers pairs of image files. Names are relative to the folder of the
// high-quality images, also those of what is reported about the other one.
type Source struct {
	hq, lq files.Tree
	scale  int
	suffix string
	folder string // of the companions, as configured
	prefix string // of their names: the way there from the high-quality images
}

var (
	_ pipeline.Source = (*Source)(nil)
	_ pipeline.Rooted = (*Source)(nil)
)

func newSource(c pipeline.Config) (*Source, error) {
	s := &Source{scale: int(c.Int("scale")), suffix: c.String("lq_suffix"), folder: c.String("lq")}
	if strings.ContainsAny(s.suffix, "/\x00") {
		return nil, c.Errorf("lq_suffix", 0, "%q cannot be part of a file's name", s.suffix)
	}
	var err error
	// The companions' own sidecars stay behind: the image's speak for both.
	if s.hq.Sidecars, err = files.Sidecars(c); err != nil {
		return nil, err
	}
	if s.hq.Root, err = root(c, "hq"); err != nil {
		return nil, err
	}
	if s.lq.Root, err = root(c, "lq"); err != nil {
		return nil, err
	}
	switch hqInLQ, lqInHQ := inside(s.hq.Root, s.lq.Root), inside(s.lq.Root, s.hq.Root); {
	case hqInLQ && lqInHQ:
		return nil, c.Errorf("lq", 0, "it is the same folder as hq: the companions must be in a folder of their own")
	case hqInLQ:
		return nil, c.Errorf("hq", 0, "it lies in the folder lq, so that its images would also be companions: put the two side by side")
	case lqInHQ:
		return nil, c.Errorf("lq", 0, "it lies in the folder hq, so that the companions would also be high-quality images: put the two side by side")
	}
	way, err := filepath.Rel(s.hq.Root, s.lq.Root)
	if err != nil {
		return nil, c.Errorf("lq", 0, "finding the way from hq: %w", err)
	}
	s.prefix = filepath.ToSlash(way) + "/"
	return s, nil
}

// root is the absolute path of a folder.
func root(c pipeline.Config, field string) (string, error) {
	name := c.String(field)
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", c.Errorf(field, 0, "finding the folder: %w", err)
	}
	switch info, err := os.Stat(abs); {
	case err != nil:
		return "", c.Errorf(field, 0, "looking for the folder: %w", err)
	case !info.IsDir():
		return "", c.Errorf(field, 0, "%s is not a folder", name)
	}
	return abs, nil
}

// inside reports whether a folder is the other or lies in it, links followed.
func inside(folder, other string) bool {
	if real, err := filepath.EvalSymlinks(folder); err == nil {
		folder = real
	}
	if real, err := filepath.EvalSymlinks(other); err == nil {
		other = real
	}
	rel, err := filepath.Rel(other, folder)
	return err == nil && filepath.IsLocal(rel)
}

// Roots are the two folders.
func (s *Source) Roots() []string { return []string{s.hq.Root, s.lq.Root} }

// Emit offers the pairs, folder by folder: first what the folder of the
// high-quality images holds, then what is left of its counterpart.
func (s *Source) Emit(ctx context.Context, emit func(pipeline.Input) error) error {
	return s.walk(ctx, "", true, true, emit)
}

// walk offers what is in the folder rel of the trees that have it, and below.
func (s *Source) walk(ctx context.Context, rel string, inHQ, inLQ bool, emit func(pipeline.Input) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var hq, lq files.Folder
	if inHQ {
		hq = s.hq.Read(rel, nil)
		if err := unreadable(&s.hq, rel, rel, hq.Err, emit); err != nil {
			return err
		}
	}
	if inLQ {
		lq = s.lq.Read(rel, nil)
		if err := unreadable(&s.lq, rel, s.prefix+rel, lq.Err, emit); err != nil {
			return err
		}
	}
	m := s.match(rel, &hq, &lq)
	for i := range hq.Entries {
		e := &hq.Entries[i]
		var err error
		switch e.Verdict {
		case files.PassedOver:
		case files.Descend:
			err = s.walk(ctx, rel+e.Name+"/", true, m.common[e.Name], emit)
		default:
			in := hq.Input(e)
			if e.IsFile() && in.Err == nil {
				in.LQ, in.Err = m.partner(i, &lq)
				in.Scale = s.scale
			}
			err = emit(in)
		}
		if err != nil {
			return err
		}
		*e = files.Entry{} // the folder may be waiting for one deep below it
	}
	for j := range lq.Entries {
		e := &lq.Entries[j]
		var err error
		switch {
		case e.Verdict == files.PassedOver || m.taken[j]:
		case e.Verdict == files.Descend:
			if !m.common[e.Name] {
				err = s.walk(ctx, rel+e.Name+"/", false, true, emit)
			}
		default:
			in := lq.Input(e)
			if e.Verdict == files.Image {
				in = pipeline.Input{Name: in.Name, Err: m.orphan[j]}
			}
			in.Name, in.KeepExtension = s.prefix+in.Name, false
			err = emit(in)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unreadable reports a folder that could not be read. Without the root there is
// nothing to do.
func unreadable(t *files.Tree, rel, name string, err error, emit func(pipeline.Input) error) error {
	switch {
	case err == nil:
		return nil
	case rel == "":
		return fmt.Errorf("reading the input folder %s: %w", t.Root, files.Plain(err))
	}
	// With its slash, the name cannot be that of anything else.
	return emit(pipeline.Input{Name: name, Err: fmt.Errorf("reading the folder: %w", files.Plain(err))})
}
