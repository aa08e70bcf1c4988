package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoRun says that no run answers in a state directory.
var ErrNoRun = errors.New("no run is running")

// ErrSilent says that a run is there, and does not answer.
var ErrSilent = errors.New("the run does not answer")

const (
	patience   = 5 * time.Second // for an answer that needs no work
	maxAnswer  = 16 << 20
	maxMessage = 200 // of an answer that says what is wrong
)

// Client asks the run of a state directory. Every request is a connection of its
// own.
type Client struct {
	dir  *os.File
	http *http.Client
}

// Open finds the run of a state directory, without asking it anything yet. Close
// must be called. The error is ErrNoRun when there is no such directory.
func Open(dir string) (*Client, error) {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, ErrNoRun
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the control socket: %w", err)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", address(f))
		if err != nil {
			return nil, short(err)
		}
		return c, nil
	}
	return &Client{dir: f, http: &http.Client{Transport: &http.Transport{
		DialContext: dial, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
	}}}, nil
}

// Close gives back what Open took.
func (c *Client) Close() { c.dir.Close() }

// Memory asks for the memory of the run. The error is ErrNoRun when there is no
// run, also one that has ended since, and ErrSilent when it has not answered
// within 5 s.
func (c *Client) Memory(ctx context.Context) (r Report, err error) {
	err = c.askSoon(ctx, http.MethodGet, "/memory", &r)
	return r, err
}

// Pause has the run begin nothing new. Its answer is how the run is then; one that
// ends cannot be paused any more. Errors are those of Memory.
func (c *Client) Pause(ctx context.Context) (s State, err error) {
	err = c.askSoon(ctx, http.MethodPost, "/pause", &s)
	return s, err
}

// Resume has a paused run go on. Errors are those of Memory.
func (c *Client) Resume(ctx context.Context) (s State, err error) {
	err = c.askSoon(ctx, http.MethodPost, "/resume", &s)
	return s, err
}

// Clear has the run clean up and waits for what that freed, until ctx ends.
// Errors are those of Memory, but it is waited for however long it takes.
func (c *Client) Clear(ctx context.Context) (Cleaned, error) {
	// A run that answers nothing would be waited for without end.
	if _, err := c.Memory(ctx); err != nil {
		return Cleaned{}, err
	}
	var done Cleaned
	err := c.ask(ctx, http.MethodPost, "/clear", &done)
	return done, err
}

// askSoon is ask for what needs no work.
func (c *Client) askSoon(ctx context.Context, method, path string, into any) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := c.ask(limited, method, path, into)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return ErrSilent
	}
	return err
}

func (c *Client) ask(ctx context.Context, method, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://run"+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("asking the run: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return asking(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return asking(err)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("asking the run for %s: it says %s: %q", path, resp.Status, body[:min(len(body), maxMessage)])
	case len(body) > maxAnswer:
		return fmt.Errorf("asking the run for %s: its answer is longer than %d MiB", path, maxAnswer>>20)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("asking the run for %s: its answer cannot be read: %w", path, err)
	}
	return nil
}

// asking sorts the errors of a request.
func asking(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED): // none was opened, or its run was killed
		return ErrNoRun
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("it ended meanwhile: %w", ErrNoRun)
	case errors.Is(err, syscall.EAGAIN): // its queue of connections is full
		return ErrSilent
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the run is another user's: %w", fs.ErrPermission)
	}
	return fmt.Errorf("asking the run: %w", err)
}
