package main

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// A page is one page of documentation, taken apart: its fenced blocks, its inline
// code, its links and its headings.
type page struct {
	blocks  []block
	spans   []span
	links   []span
	anchors map[string]bool // of its headings, as GitHub makes them
}

// A block is fenced code.
type block struct {
	line  int    // of its fence
	info  string // what stands behind the fence: "yaml"
	intro string // the paragraph right before it
	lines []string
}

func (b block) text() string { return strings.Join(b.lines, "\n") + "\n" }

// has tells whether a block of YAML has all of these keys, at its top.
func (b block) has(keys ...string) bool {
	return b.info == "yaml" && !slices.ContainsFunc(keys, func(k string) bool { return !strings.Contains("\n"+b.text(), "\n"+k+":") })
}

// A span is a piece of a line.
type span struct {
	line int
	text string
}

// A shown command is one that a page tells its readers to type, or names.
type shown struct {
	span
	inline bool
	// output is what the page says that it prints, where it says so: in a block of
	// "console" below its command.
	output []string
}

var (
	fence      = regexp.MustCompile("^ *```+ *([a-z]*) *$")
	inlineCode = regexp.MustCompile("`([^`]+)`")
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	ours       = regexp.MustCompile(`^(bin/)?(forgepipe|make)( |$)`)
)

// parsePage takes Markdown apart, as far as these tests need it.
func parsePage(text string) page {
	p := page{anchors: map[string]bool{}}
	var para []string // the paragraph under way
	begins := 0
	last := "" // the one before
	end := func() {
		if len(para) == 0 {
			return
		}
		last = strings.Join(para, "\n")
		for _, m := range inlineCode.FindAllStringSubmatchIndex(last, -1) {
			code := strings.Join(strings.Fields(last[m[2]:m[3]]), " ")
			p.spans = append(p.spans, span{begins + strings.Count(last[:m[2]], "\n"), code})
		}
		prose := inlineCode.ReplaceAllStringFunc(last, func(s string) string { return strings.Repeat("x", len(s)) })
		for _, m := range link.FindAllStringSubmatchIndex(prose, -1) {
			p.links = append(p.links, span{begins + strings.Count(last[:m[2]], "\n"), last[m[2]:m[3]]})
		}
		para = nil
	}
	var open *block
	for i, line := range strings.Split(text, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case open != nil && m != nil:
			p.blocks = append(p.blocks, *open)
			open, last = nil, ""
		case open != nil:
			open.lines = append(open.lines, line)
		case m != nil:
			end()
			open = &block{line: i + 1, info: m[1], intro: last}
		case strings.TrimSpace(line) == "":
			end()
		default:
			if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
				end()
				p.anchors[anchor(heading)] = true
			}
			if len(para) == 0 {
				begins = i + 1
			}
			para = append(para, line)
		}
	}
	end()
	return p
}

// anchor is the name under which a heading can be linked to.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
			b.WriteRune(r)
		}
	}
	return b.String()
}

// commands are the commands of a page that are this project's, in the order in
// which they stand in it: blocks first, then what is in the text.
func (p page) commands() (all []shown) {
	for _, b := range p.blocks {
		if b.info != "yaml" && b.info != "go" && b.info != "json" {
			all = append(all, b.commands()...)
		}
	}
	for _, s := range p.spans {
		if ours.MatchString(s.text) {
			all = append(all, shown{span: s, inline: true})
		}
	}
	return all
}

// commands are those of a block. Where some of its lines begin with "$ ", these are
// the commands and the others what they print.
func (b block) commands() (all []shown) {
	prompts := strings.Contains("\n"+strings.Join(b.lines, "\n"), "\n$ ")
	typing := false
	for i, line := range b.lines {
		typed, prompted := strings.CutPrefix(line, "$ ")
		switch {
		case typing: // the line before ended in a backslash
			c := &all[len(all)-1]
			c.text = strings.TrimSuffix(c.text, `\`) + strings.TrimSpace(line)
		case prompted || !prompts && ours.MatchString(line):
			all = append(all, shown{span: span{b.line + 1 + i, typed}})
		case b.info == "console" && len(all) > 0 && strings.TrimSpace(line) != "":
			all[len(all)-1].output = append(all[len(all)-1].output, line)
		}
		typing = strings.HasSuffix(line, `\`) && (typing || prompted || ours.MatchString(line))
	}
	kept := all[:0]
	for _, c := range all {
		if ours.MatchString(c.text) {
			kept = append(kept, c)
		}
	}
	return kept
}

var (
	number = regexp.MustCompile(`[0-9][0-9.,]*( ?([KMGT]i)?B\b| (ms|s|min|h)\b)?`)
	spaces = regexp.MustCompile(`[ \t]+`)
	rooted = regexp.MustCompile(`(^|\s)/\S*/`)
)

// shape is a line of output without its figures, which are others each time, and
// without where on the machine its files are.
func shape(line string) string {
	line = rooted.ReplaceAllString(line, "$1/")
	line = spaces.ReplaceAllString(strings.TrimSpace(line), " ")
	line = number.ReplaceAllString(line, "#")
	return strings.ReplaceAll(line, "# #", "#") // 1 min 20 s
}

// missing is the first of the wanted lines that is not among those printed, in this
// order and whatever the figures.
func missing(printed string, want []string) (line string, ok bool) {
	got := strings.Split(printed, "\n")
	for _, w := range want {
		if strings.TrimSpace(w) == "..." {
			continue
		}
		for {
			if len(got) == 0 {
				return w, true
			}
			next := got[0]
			got = got[1:]
			if shape(next) == shape(w) {
				break
			}
		}
	}
	return "", false
}
