package decisions

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/forgepipe/forgepipe/pipeline"
)

const (
	// maxRow is longer than a row with two IDs can be that file systems allow.
	maxRow = 64 << 10
	// maxDecided bounds the rows that a person decided, which are kept in memory.
	maxDecided = 256 << 20

	byteOrderMark = "\ufeff"
)

// Parse reads a file; name is what errors call it. Separators are commas, semicolons or
// tabs, as the first line has them. Columns can be in any order, and others can be there.
//
// IDs may begin like a formula: "=cmd.jpg" is a name of a file. Where a cell begins so, or
// the part of one after a comma or a semicolon that a spreadsheet could take for a cell,
// its first character is percent-encoded when it is written, as "%3Dcmd.jpg". IDs have
// percent signs of their own encoded, so that nothing else is written like that, and reading
// gives the same ID back.
func Parse(r io.Reader, name string) (*File, error) {
	p := &parser{File: empty(), name: name, in: &limited{r: r, left: maxRow}}
	if err := p.parse(); err != nil {
		return nil, err
	}
	return p.File, nil
}

// parser reads one file.
type parser struct {
	*File
	name string
	in   *limited
	csv  *csv.Reader
	at   []int // of each column in a row, -1: it is not there; then of the person's own
	size int64 // bytes of what a person decided
	line int   // of the last row
}

func (p *parser) errorf(line int, format string, args ...any) error {
	return &Error{p.name, line, fmt.Sprintf(format, args...)}
}

func (p *parser) parse() error {
	r := bufio.NewReaderSize(p.in, maxRow)
	// An error comes again when rows are read.
	start, _ := r.Peek(maxRow)
	if bytes.HasPrefix(start, []byte("\xff\xfe")) || bytes.HasPrefix(start, []byte("\xfe\xff")) {
		return p.errorf(1, "the file is UTF-16: save it as CSV UTF-8")
	}
	if bytes.HasPrefix(start, []byte(byteOrderMark)) {
		start = start[len(byteOrderMark):]
		_, _ = r.Discard(len(byteOrderMark)) // they are in the buffer
	}
	p.separator = separatorOf(start)
	p.csv = csv.NewReader(r)
	p.csv.Comma, p.csv.FieldsPerRecord, p.csv.ReuseRecord = p.separator, -1, true
	row, line, err := p.row()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := p.header(row, line); err != nil {
		return err
	}
	for {
		row, line, err := p.row()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.take(row, line); err != nil {
			return err
		}
	}
}

// separatorOf is the one between the names of the columns in the first line with anything
// in it.
func separatorOf(start []byte) rune {
	line, _, _ := bytes.Cut(bytes.TrimLeft(start, "\r\n"), []byte("\n"))
	for _, separator := range ",;\t" {
		names := strings.Split(strings.ToLower(string(line)), string(separator))
		for i, name := range names {
			names[i] = strings.Trim(name, "\" \r")
		}
		if slices.Contains(names, columns[decisionColumn]) && slices.Contains(names, columns[itemColumn]) {
			return separator
		}
	}
	return ','
}

// row reads the next row that has anything in it. What it returns is valid until the next
// call.
func (p *parser) row() (row []string, line int, err error) {
	for {
		p.in.left = 2 * maxRow // the reader may have as much beforehand
		row, err = p.csv.Read()
		var wrong *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return nil, 0, io.EOF
		case errors.Is(err, errLong):
			return nil, 0, p.tooLong(p.line + 1)
		case errors.As(err, &wrong):
			return nil, 0, p.errorf(wrong.StartLine, "%v: put the whole cell in quotes, and write each quote in it twice", wrong.Err)
		case err != nil:
			return nil, 0, fmt.Errorf("reading decisions from %s: %w", p.name, err)
		}
		line, _ = p.csv.FieldPos(0)
		p.line = line
		size := 0
		for _, s := range row {
			if size += len(s) + 1; size > maxRow {
				return nil, 0, p.tooLong(line)
			}
			if !utf8.ValidString(s) {
				return nil, 0, p.errorf(line, "the row is not UTF-8, so that names in it are not what they were: save the file as CSV UTF-8")
			}
		}
		if slices.ContainsFunc(row, func(s string) bool { return strings.TrimSpace(s) != "" }) {
			return row, line, nil
		}
	}
}

func (p *parser) tooLong(line int) error {
	return p.errorf(line, "the row that begins here or below is longer than %d bytes: is there a quote that is not closed?", maxRow)
}

// header takes the names of the columns.
func (p *parser) header(row []string, line int) error {
	p.at = slices.Repeat([]int{-1}, len(columns))
	for i, s := range row {
		name := strings.TrimSpace(s)
		c := slices.Index(columns, strings.ToLower(name))
		switch {
		case name == "": // of a column that was once there
		case c < 0:
			p.extra = append(p.extra, name)
			p.at = append(p.at, i)
		case p.at[c] >= 0:
			return p.errorf(line, "the column %s is there twice: delete one", columns[c])
		default:
			p.at[c] = i
		}
	}
	for c, name := range columns[:needed] {
		switch {
		case p.at[c] >= 0:
		case len(p.extra) == 1 && strings.Contains(p.extra[0], string(p.separator)):
			return p.errorf(line, "all columns are in one: open the file in the spreadsheet with %q as the separator, and save it again", p.separator)
		default:
			return p.errorf(line, "there is no column %s: the first line must be %s", name, strings.Join(columns, string(p.separator)))
		}
	}
	return nil
}

// take takes a row.
func (p *parser) take(row []string, line int) error {
	cell := func(at int) string {
		if at < 0 || at >= len(row) {
			return ""
		}
		return row[at]
	}
	word := strings.ToLower(strings.TrimSpace(cell(p.at[decisionColumn])))
	if word == "" {
		return nil // the run's
	}
	own := make([]string, len(p.at))
	for i, at := range p.at {
		own[i] = strings.Clone(cell(at))
		p.size += int64(len(own[i])) + 16
	}
	if p.size > maxDecided {
		return p.errorf(line, "the decisions take more than %d MiB: divide the set, and the file with it", maxDecided>>20)
	}
	own[decisionColumn] = word
	for _, c := range []int{itemColumn, keeperColumn} {
		id, err := parseID(own[c])
		if err != nil {
			return p.errorf(line, "the %s: %v", columns[c], err)
		}
		own[c] = id
	}
	if err := p.decide(own, line); err != nil {
		return p.errorf(line, "%v", err)
	}
	return nil
}

// parseID reads the ID in a cell, some characters of which can be encoded that need not be.
func parseID(cell string) (string, error) {
	cell = strings.TrimSpace(cell)
	if name, ok := strings.CutPrefix(cell, "@"); ok {
		cell = "%40" + name // of a file, as no ID begins with a part of a picture
	}
	parts := strings.Split(cell, "@")
	for i, part := range parts {
		name, err := pipeline.UnescapeID(part)
		if err != nil {
			return "", fmt.Errorf("%w: copy it as the run writes it, with %%25 for a percent sign", err)
		}
		parts[i] = pipeline.EscapeID(name)
	}
	return strings.Join(parts, "@"), nil
}

// safe is how a text is written so that no spreadsheet takes it, or a part of it between
// separators, for a formula, nor removes blanks at its ends. The sign that is encoded is
// never the '@' within an ID, which says that it is of a part of a picture.
func safe(s string) string {
	var b strings.Builder
	done := 0 // of s
	encode := func(from, to int) {
		b.WriteString(s[done:from])
		for _, c := range []byte(s[from:to]) {
			fmt.Fprintf(&b, "%%%02X", c)
		}
		done = to
	}
	begin, end := 0, 0 // of the sign that would be encoded: the separator, or the first one
	open := true       // only quotes and blanks have come since
	for i, n := 0, 0; i < len(s); i = n {
		r, size := utf8.DecodeRuneInString(s[i:])
		if n = i + size; i == 0 {
			end = n
		}
		switch {
		case r == utf8.RuneError && size == 1:
			encode(i, n)
			open = false
		case open && strings.ContainsRune(formula, r):
			encode(begin, end)
			open = false
		case strings.ContainsRune(",;|", r):
			begin, end, open = i, n, true
		case r < 0x20 || r == 0x7f || invisible(r) && (i == 0 || n == len(s)):
			encode(i, n)
			open = false
		case r != '"' && r != '\'' && !invisible(r):
			open = false
		}
	}
	return b.String() + s[done:]
}

// invisible are blanks, and marks that programs may pass over.
func invisible(r rune) bool { return unicode.IsSpace(r) || unicode.In(r, unicode.Z, unicode.C) }

// formula are the signs that a formula begins with, also in the width of East Asian letters.
const formula = "=+-@＝＋－＠"

// limited reads so many bytes.
type limited struct {
	r    io.Reader
	left int
}

var errLong = errors.New("the row is too long")

func (l *limited) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, errLong
	}
	n, err := l.r.Read(b[:min(len(b), l.left)])
	l.left -= n
	return n, err
}
