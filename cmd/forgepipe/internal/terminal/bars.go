package terminal

import (
	"bytes"
	"io"
	"strings"
	"sync/atomic"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// barWidth is that of a bar, in columns; the row of what is to do has more.
const barWidth = 12

// bars lay out rows as a block of a Screen, with mpb: the widths of columns, the bars, and
// what is cut off where the terminal is narrow.
type bars struct {
	screen  *Screen
	p       *mpb.Progress
	all     []*mpb.Bar
	rows    atomic.Pointer[[]row]
	refresh chan any
	drawn   chan struct{} // a frame is on the screen
	ended   chan any
}

func newBars(s *Screen) *bars {
	return &bars{screen: s, refresh: make(chan any), drawn: make(chan struct{}, 1), ended: make(chan any)}
}

// draw shows the rows. Their number is always the same, and so is which of them have
// cells.
func (b *bars) draw(rows []row) {
	b.rows.Store(&rows)
	if b.p == nil {
		// Frames are drawn when there is something new, and not by a clock of mpb's.
		b.p = mpb.New(mpb.WithConsoleWriter(&console{bars: b}), mpb.WithManualRefresh(b.refresh),
			mpb.WithShutdownNotifier(b.ended), mpb.WithQueueLen(len(rows)))
		for i := range rows {
			b.all = append(b.all, b.add(i))
		}
	}
	for i, r := range rows {
		b.all[i].SetTotal(r.of, false)
		b.all[i].SetCurrent(r.fill)
	}
	select {
	case b.refresh <- nil:
	case <-b.ended:
		return
	}
	select {
	case <-b.drawn:
	case <-b.ended:
	}
}

// add makes the bar of row i. It begins without a total, as mpb takes a bar that is
// once full for done, and a queue is not.
func (b *bars) add(i int) *mpb.Bar {
	now := func() row { return (*b.rows.Load())[i] }
	var cells []decor.Decorator
	for k := range now().cells {
		align := decor.WC{C: decor.DSyncWidth}
		if k == 0 {
			align.C = decor.DSyncWidthR
		}
		cells = append(cells, decor.Any(func(decor.Statistics) string { return now().cells[k] }, align))
	}
	note := decor.Any(func(decor.Statistics) string { return now().note })
	if b.screen.color {
		note = decor.Meta(note, func(text string) string {
			if now().marked {
				return emphasis(text)
			}
			return text
		})
	}
	bar := mpb.BarStyle().Lbound("[").Filler("#").Tip("#").Padding("-").Rbound("]").Build()
	fill := func(w io.Writer, s decor.Statistics) error {
		if s.Total > 0 {
			return bar.Fill(w, s)
		}
		_, err := io.WriteString(w, runewidth.Truncate(now().instead, s.AvailableWidth, ""))
		return err
	}
	options := []mpb.BarOption{
		mpb.BarPriority(i), mpb.BarWidth(barWidth), mpb.PrependDecorators(cells...), mpb.AppendDecorators(note),
	}
	if len(cells) == 0 {
		options = append(options, mpb.BarFillerTrim())
	}
	added, _ := b.p.Add(0, mpb.BarFillerFunc(fill), options...) // refused only after close
	return added
}

// close takes the block away.
func (b *bars) close() {
	if b.p != nil {
		b.p.Shutdown()
	}
	b.screen.Draw(nil)
}

// console is the terminal as mpb sees it: what it lays out becomes the block of the
// Screen. mpb's own one moves the cursor up by too few rows where a terminal is lower
// than the block, since it takes those off twice that it left out, or was narrowed since
// the last frame; and it keeps messages back until the next.
type console struct {
	bars *bars
	text bytes.Buffer
}

var _ mpb.ConsoleWriter = (*console)(nil)

func (c *console) Write(p []byte) (int, error)               { return c.text.Write(p) }
func (c *console) ReadFrom(r io.Reader) (n int64, err error) { return c.text.ReadFrom(r) }
func (c *console) IsTerminal() bool                          { return true }

// GetTermSize leaves the last column and the last row free.
func (c *console) GetTermSize() (width, height int, err error) {
	width, height = c.bars.screen.size()
	return max(width-1, 1), max(height-1, 1), nil
}

// Flush draws a frame. How many rows it has can be seen.
func (c *console) Flush(int) error {
	var lines []string
	for line := range strings.Lines(c.text.String()) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	c.text.Reset()
	c.bars.screen.Draw(lines)
	select {
	case c.bars.drawn <- struct{}{}:
	default:
	}
	return nil
}
