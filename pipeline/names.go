package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// DefaultTemplate keeps the source's tree and stem.
const DefaultTemplate = "{dir}{stem}{suffix}{ext}"

// A Template makes file names for outputs. Its placeholders are
//
//	{dir}     the source's folder, with a slash at its end, or nothing
//	{stem}    the source's file name without its extension
//	{suffix}  the lineage: "_x512_y0" for a tile, nothing for a whole image
//	{hash}    16 hexadecimal digits made from the whole ID
//	{ext}     the output's extension, with its dot
//
// When two sources of a folder have the same stem, both keep their extension in
// {stem}.
type Template struct {
	text  string
	parts []string // literal, placeholder, literal, ..., literal
}

var placeholders = []string{"dir", "stem", "suffix", "hash", "ext"}

// ParseTemplate reads a template and refuses one under which two items could
// get the same name; lineage says whether items may be derived ones.
func ParseTemplate(text string, lineage bool) (Template, error) {
	t := Template{text: text}
	rest := text
	used := map[string]bool{}
	for {
		lit, after, ok := strings.Cut(rest, "{")
		if strings.Contains(lit, "}") {
			return Template{}, fmt.Errorf("%q has a closing brace without an opening one", text)
		}
		t.parts = append(t.parts, lit)
		if !ok {
			break
		}
		name, after, ok := strings.Cut(after, "}")
		if !ok {
			return Template{}, fmt.Errorf("%q has an opening brace without a closing one", text)
		}
		if !slices.Contains(placeholders, name) {
			return Template{}, fmt.Errorf("there is no {%s}%s (there are {%s})", name, didYouMean(name, placeholders), strings.Join(placeholders, "}, {"))
		}
		used[name] = true
		t.parts = append(t.parts, name)
		rest = after
	}
	for i := 0; i < len(t.parts); i += 2 {
		if strings.ContainsAny(t.parts[i], "\x00\\") {
			return Template{}, fmt.Errorf("%q holds a character that no file name should have", text)
		}
	}
	if !strings.HasSuffix(text, "{ext}") || strings.Count(text, "{ext}") != 1 {
		return Template{}, errors.New("a name must end in {ext}")
	}
	if strings.HasPrefix(text, "/") || slices.Contains(strings.Split(text, "/"), "..") {
		return Template{}, errors.New("a name must stay inside the output folder: no leading slash, and no \"..\"")
	}
	if strings.HasPrefix(text, ".") || strings.Contains(text, "/.") || strings.Contains(text, "//") {
		return Template{}, errors.New("no part of a name may be empty or begin with a dot")
	}
	at := func(p string) int { return strings.Index(text, "{"+p+"}") }
	switch {
	case used["hash"]:
	case !used["dir"] || !used["stem"]:
		return Template{}, errors.New("two sources could get the same name: use {dir} and {stem}, or {hash}")
	case at("dir") > at("stem") || used["suffix"] && at("suffix") < at("stem"):
		return Template{}, errors.New("two sources could get the same name: {dir}, {stem} and {suffix} must come in this order, or use {hash}")
	case lineage && !used["suffix"]:
		return Template{}, errors.New("all tiles of an image would get the same name: use {suffix} or {hash}")
	}
	return t, nil
}

// String returns the template's text.
func (t Template) String() string { return t.text }

// NameOf is what a template needs to know of an item.
type NameOf struct {
	Source        string // path relative to the source's root, raw bytes
	Lineage       string // Item.Lineage
	KeepExtension bool   // SourceInfo.KeepExtension
	Ext           string // of the output, with its dot
}

// Name makes the relative, slash-separated path of an output.
func (t Template) Name(n NameOf) string {
	dir, base := path.Split(n.Source)
	stem := base
	if !n.KeepExtension {
		stem, _ = stemExt(base)
	}
	var b strings.Builder
	for i, p := range t.parts {
		if i%2 == 0 {
			b.WriteString(p)
			continue
		}
		switch p {
		case "dir":
			b.WriteString(dir)
		case "stem":
			b.WriteString(stem)
		case "suffix":
			for _, s := range steps(n.Lineage) {
				b.WriteString(stepSuffix(s))
			}
		case "hash":
			h := sha256.Sum256([]byte(n.Source + "\x00" + n.Lineage))
			b.WriteString(hex.EncodeToString(h[:8]))
		case "ext":
			b.WriteString(n.Ext)
		}
	}
	return b.String()
}

// stepSuffix is what one derivation adds to a file name: its place for a tile,
// otherwise the key with the characters that names should not have replaced.
func stepSuffix(key string) string {
	if v, ok := strings.CutPrefix(key, "tile="); ok {
		if p := strings.Split(v, ","); len(p) == 3 {
			return "_x" + p[1] + "_y" + p[2]
		}
	}
	return "_" + strings.NewReplacer("=", "-", ",", "-", "/", "-", "\\", "-", ":", "-").Replace(key)
}
