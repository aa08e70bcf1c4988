package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

const (
	// tries is how often in a row an address may give little or nothing. Its pauses add
	// up to about 8 s.
	tries = 5
	// enough is what a try must bring for the count to begin anew.
	enough = 1 << 20
	// idlePatience is how long nothing may come.
	idlePatience = 30 * time.Second
	firstPause   = 500 * time.Millisecond
	longestPause = 60 * time.Second
)

// errIdle ends a connection over which nothing comes.
var errIdle = errors.New("nothing has come for too long")

// download fetches one file. Its part in the store holds what has come so far.
type download struct {
	store    *Store
	root     fsys.Root
	entry    Entry
	o        FetchOptions
	size     int64  // 0: not known
	hash     string // "": not known
	hashFrom string

	file  fsys.File // the part, open for writing; nil: it is not there
	have  int64     // bytes in it
	sum   hash.Hash // of them
	state partState
	boot  string // bootID
	mixed bool   // it is of more than one answer
}

// partState is what must be known of a part to go on with it.
type partState struct {
	URL string `json:"url"` // where it came from
	// Validator is the ETag or Last-Modified of the file that it is a part of.
	Validator string `json:"validator"`
	Size      int64  `json:"size,omitempty"` // of the whole file; 0: not known
	// Boot is the time that the system is up which wrote it. What is in the part is on its
	// way to the disk as long as that lasts, and after a loss of power it may be zeros that
	// no validator tells.
	Boot string `json:"boot,omitempty"`
}

// bootID tells one start of the system from another; "" is not known.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

func (d *download) part() string  { return partialDir + "/" + d.entry.Name }
func (d *download) about() string { return d.part() + ".json" }

// run tries the addresses in order.
func (d *download) run(ctx context.Context) (rec Record, err error) {
	t := newTransport(d.o)
	defer t.close()
	client := &http.Client{Transport: t, CheckRedirect: checkRedirect}
	if err := d.resume(ctx); err != nil {
		return Record{}, err
	}
	defer func() { err = errors.Join(err, d.closePart()) }()
	var failed []error
	for _, url := range d.entry.URLs {
		err := d.from(ctx, client, url)
		if err == nil {
			return d.keep(ctx, url)
		}
		if ctx.Err() != nil {
			return Record{}, context.Cause(ctx)
		}
		var space *SpaceError
		if errors.As(err, &space) || isLocal(err) {
			return Record{}, err
		}
		failed = append(failed, fmt.Errorf("fetching the model %s: %w", d.entry.Name, err))
	}
	return Record{}, errors.Join(failed...)
}

// localError is one of the disk, which no other address mends.
type localError struct{ error }

func (e localError) Unwrap() error { return e.error }

func isLocal(err error) bool { return errors.As(err, new(localError)) }

// resume takes up the part that an earlier run has left.
func (d *download) resume(ctx context.Context) error {
	if err := d.root.MkdirAll(partialDir); err != nil {
		return err
	}
	d.sum, d.boot = sha256.New(), cmp.Or(d.o.boot, bootID())
	text, err := d.read(ctx, d.about(), nil)
	// Where the hash is not known, nothing would tell that the part has been damaged.
	if err == nil && json.Unmarshal(text, &d.state) == nil && (d.hash != "" || d.boot != "" && d.state.Boot == d.boot) {
		if _, err = d.read(ctx, d.part(), d.sum); err == nil {
			d.mixed = d.have > 0
			d.file, err = d.root.Append(d.part())
			return err
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.restart()
}

// read reads a file of the store, into h or into the result.
func (d *download) read(ctx context.Context, name string, h hash.Hash) ([]byte, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if h == nil {
		return io.ReadAll(io.LimitReader(f, 1<<16))
	}
	d.have, err = copyContext(ctx, h, f)
	return nil, err
}

// restart forgets the part.
func (d *download) restart() error {
	err := d.closePart()
	if err == nil {
		err = drop(d.root, d.part(), d.about())
	}
	d.have, d.state, d.mixed = 0, partState{}, false
	d.sum.Reset()
	return err
}

func (d *download) closePart() error {
	if d.file == nil {
		return nil
	}
	f := d.file
	d.file = nil
	return f.Close()
}

// from fetches from one address until the file is whole and right.
func (d *download) from(ctx context.Context, client *http.Client, url string) error {
	again := false
	for count := 0; ; {
		before := d.have
		err := d.try(ctx, client, url)
		if err == nil {
			if err = d.verify(url); err == nil {
				return nil
			}
			// Bytes of several answers may be of several files; those of one are what
			// the address has.
			mixed := d.mixed
			if dropErr := d.restart(); dropErr != nil {
				return localError{dropErr}
			}
			if mixed && !again {
				again = true
				continue
			}
			return err
		}
		if ctx.Err() != nil || isLocal(err) || final(err) {
			return err
		}
		if d.have-before >= enough {
			count = 0
		}
		if count++; count >= tries {
			return fmt.Errorf("%w (after %d tries; what was fetched is kept: run again to go on)", err, count)
		}
		if err := d.rest(ctx, count, err); err != nil {
			return err
		}
	}
}

// rest waits before the next try: twice as long each time, or as the server wants.
func (d *download) rest(ctx context.Context, count int, cause error) error {
	pause := firstPause << (count - 1)
	pause += time.Duration(rand.Int64N(int64(pause) / 4))
	var status *statusError
	if errors.As(cause, &status) {
		pause = max(pause, status.after)
	}
	pause = min(pause, longestPause)
	if d.o.pause != nil {
		return d.o.pause(ctx, pause)
	}
	return sleep(ctx, pause)
}

// try asks once, for what is missing.
func (d *download) try(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(cmp.Or(d.o.idle, idlePatience), func() { cancel(errIdle) })
	defer idle.Stop()
	if whole := cmp.Or(d.size, d.state.Size); whole > 0 && d.have == whole { // and was not put in place
		return nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("User-Agent", "forgepipe")
	r.Header.Set("Accept-Encoding", "identity")
	if err := d.ask(r, url); err != nil {
		return localError{err}
	}
	resp, err := client.Do(r)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errIdle) {
			return fmt.Errorf("%s: %w", url, cause)
		}
		return d.unreached(url, err)
	}
	defer resp.Body.Close()
	total, err := d.begin(resp, url)
	if err != nil {
		return err
	}
	if err := d.store.room(cmp.Or(d.size, total) - d.have); err != nil {
		return err
	}
	return d.receive(ctx, resp, url, total, func() { idle.Reset(cmp.Or(d.o.idle, idlePatience)) })
}

// ask asks for the rest, where what there is can be gone on with: the server says that
// the file is still the same, or its hash is known and tells in the end.
func (d *download) ask(r *http.Request, url string) error {
	same := d.state.URL == url && d.state.Validator != ""
	if d.have == 0 || !same && d.hash == "" {
		return d.restart()
	}
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.have))
	if same {
		r.Header.Set("If-Range", d.state.Validator)
	}
	return nil
}

// begin looks at the answer's header, and opens the part. total is the size of the whole
// file; 0: the server does not say.
func (d *download) begin(resp *http.Response, url string) (total int64, err error) {
	asked := resp.Request.Header.Get("Range") != ""
	switch {
	case resp.StatusCode == http.StatusOK:
		total = max(resp.ContentLength, 0)
		if err := d.fits(total, url); err != nil {
			return 0, err
		}
		if err := d.restart(); err != nil { // it begins at the beginning, whatever was asked for
			return 0, localError{err}
		}
		d.state = partState{URL: url, Validator: validator(resp.Header), Size: total, Boot: d.boot}
	case resp.StatusCode == http.StatusPartialContent && asked:
		if total, err = d.continues(resp); err != nil {
			// The next try begins anew.
			if dropErr := d.restart(); dropErr != nil {
				return 0, localError{dropErr}
			}
			return 0, fmt.Errorf("%s: %w", url, err)
		}
		if err := d.fits(total, url); err != nil {
			return 0, err
		}
		d.mixed = true
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && asked:
		if err := d.restart(); err != nil {
			return 0, localError{err}
		}
		return 0, fmt.Errorf("%s has no more than what was fetched before, which was not right: beginning anew", url)
	default:
		after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return 0, &statusError{url: url, code: resp.StatusCode, after: time.Duration(min(max(after, 0), 3600)) * time.Second}
	}
	return total, d.openPart()
}

// continues checks that an answer goes on where the part ends, to the end of the file.
func (d *download) continues(resp *http.Response) (total int64, err error) {
	text := resp.Header.Get("Content-Range")
	var first, last int64
	rest, ok := strings.CutPrefix(text, "bytes ")
	span, size, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return 0, fmt.Errorf("the server says that it sends a part, and not which: Content-Range is %q", text)
	}
	if n, err := fmt.Sscanf(span, "%d-%d", &first, &last); n != 2 || err != nil || first != d.have || last < first {
		return 0, fmt.Errorf("the server sends another part than the one from byte %d: Content-Range is %q", d.have, text)
	}
	if size != "*" {
		if total, err = strconv.ParseInt(size, 10, 64); err != nil || total <= last {
			return 0, fmt.Errorf("the server sends a part that cannot be: Content-Range is %q", text)
		}
	}
	if d.state.Size > 0 && total > 0 && total != d.state.Size {
		return 0, fmt.Errorf("the file has %d bytes now, and had %d before", total, d.state.Size)
	}
	return total, nil
}

// fits refuses a file of the wrong size before it is fetched.
func (d *download) fits(total int64, url string) error {
	switch limit := cmp.Or(d.o.MaxBytes, DefaultMaxBytes); {
	case d.size > 0 && total > 0 && total != d.size:
		return d.wrong(url, fmt.Sprintf("%d bytes instead of the %d of %s", total, d.size, d.hashFrom))
	case d.size == 0 && total > limit:
		return d.tooLarge(url, limit)
	}
	return nil
}

func (d *download) tooLarge(url string, limit int64) error {
	return &WrongError{Name: d.entry.Name, From: url, What: fmt.Sprintf("it has more than %d bytes", limit), Mend: "--max-size allows more"}
}

func (d *download) wrong(url, what string) error {
	e := &WrongError{Name: d.entry.Name, From: url, What: what}
	if d.entry.SHA256 == "" && d.hash != "" {
		e.Mend = fmt.Sprintf("if its maker has changed it, forgepipe models rm --forget %s, and fetch it again", d.entry.Name)
	}
	return e
}

// validator is what tells one version of a file from another. A weak ETag does not: it
// may stand for other bytes.
func validator(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return h.Get("Last-Modified")
}

// openPart opens the part for writing, and says of a new one what it is of.
func (d *download) openPart() error {
	if d.file != nil {
		return nil
	}
	about, err := json.Marshal(d.state)
	if err == nil {
		err = replace(d.root, d.about(), about)
	}
	if err == nil {
		d.file, err = d.root.Create(d.part())
	}
	if err != nil {
		return localError{err}
	}
	return nil
}

// receive writes what comes. It ends without an error when the whole file has come.
func (d *download) receive(ctx context.Context, resp *http.Response, url string, total int64, alive func()) error {
	end := cmp.Or(d.size, total)
	limit := cmp.Or(end, d.o.MaxBytes, DefaultMaxBytes)
	buf := make([]byte, 128<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			alive()
			if d.have+int64(n) > limit {
				if dropErr := d.restart(); dropErr != nil {
					return localError{dropErr}
				}
				if end == 0 {
					return d.tooLarge(url, limit)
				}
				return d.wrong(url, fmt.Sprintf("more than %d bytes", end))
			}
			if err := d.write(buf[:n]); err != nil {
				return localError{err}
			}
			if d.o.Progress != nil {
				d.o.Progress(Progress{Name: d.entry.Name, Done: d.have, Total: end})
			}
		}
		switch {
		case errors.Is(err, io.EOF) && d.have < end:
			return fmt.Errorf("%s ended after %d of %d bytes", url, d.have, end)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && errors.Is(context.Cause(ctx), errIdle):
			return fmt.Errorf("%s: %w", url, errIdle)
		case err != nil:
			return fmt.Errorf("%s: %w", url, err)
		}
	}
}

func (d *download) write(p []byte) error {
	n, err := d.file.Write(p)
	d.have += int64(n)
	d.sum.Write(p[:n])
	if err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Join(d.store.dir, d.part()), err)
	}
	return nil
}

// verify tells whether the whole part is the file.
func (d *download) verify(url string) error {
	got := hex.EncodeToString(d.sum.Sum(nil))
	switch {
	case d.size > 0 && d.have != d.size:
		return d.wrong(url, fmt.Sprintf("%d bytes instead of the %d of %s", d.have, d.size, d.hashFrom))
	case d.hash != "" && got != d.hash:
		return d.wrong(url, fmt.Sprintf("sha256 %s instead of the %s of %s", got, d.hash, d.hashFrom))
	case d.hash != "":
		return nil
	}
	// Nobody knows what it should be: at least it is not the page of an error.
	if err := checkFormat(filepath.Join(d.store.dir, d.part()), d.entry.Format); err != nil {
		return d.wrong(url, err.Error())
	}
	return nil
}

// keep puts the part, which is whole and right, in its place.
func (d *download) keep(ctx context.Context, url string) (Record, error) {
	if err := d.sync(); err != nil {
		return Record{}, err
	}
	rec := Record{
		Files:  []File{{Name: d.entry.File, Size: d.have, SHA256: hex.EncodeToString(d.sum.Sum(nil))}},
		Source: url, Time: time.Now().UTC().Truncate(time.Second),
	}
	if err := d.store.settle(ctx, d.root, d.entry.Name, rec, []string{d.part()}); err != nil {
		return Record{}, err
	}
	return rec, drop(d.root, d.about())
}

func (d *download) sync() error {
	if d.file == nil {
		return nil
	}
	err := d.file.Sync()
	return errors.Join(err, d.closePart())
}
