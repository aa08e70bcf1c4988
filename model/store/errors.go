package store

import (
	"errors"
	"fmt"
	"net/http"
	neturl "net/url"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// ErrMissing is what errors.Is finds in an error about a model that is known and not in
// the store.
var ErrMissing = errors.New("the model is not in the store")

// MissingError says that a model that is known is not in the store as it should be, and
// what brings it there. It is ErrMissing.
type MissingError struct {
	Name string // in the store
	Why  string // "it has not been fetched"
	Mend string // what to do: a command, or where a person gets the file
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("the model %s is not in the store: %s: %s", e.Name, e.Why, e.Mend)
}

// Is makes the error ErrMissing.
func (e *MissingError) Is(target error) bool { return target == ErrMissing }

// UnknownError says that no registry and no store has a model of that name.
type UnknownError struct {
	Name    string   // that was asked for
	Similar []string // names that there are
}

func (e *UnknownError) Error() string {
	text := fmt.Sprintf("there is no model %q", e.Name)
	if len(e.Similar) > 0 {
		text += ": did you mean " + strings.Join(e.Similar, " or ") + "?"
	}
	return text
}

// BringError says that a model cannot be fetched: a person has to bring its file.
type BringError struct {
	Entry Entry // Bring and Page of it say how
}

func (e *BringError) Error() string {
	return fmt.Sprintf("the model %s cannot be fetched: %s", e.Entry.Name, e.Entry.bring())
}

// bring says how a person brings the file.
func (e Entry) bring() string {
	text := e.Bring
	if e.Page != "" {
		text += " (" + e.Page + ")"
	}
	return text + fmt.Sprintf(", then forgepipe models add %s --name %s", e.File, e.Name)
}

// WrongError says that bytes are others than the ones that are known under a name.
type WrongError struct {
	Name string // in the store
	From string // an address, or a file
	What string // "sha256 1234... instead of 5678..."
	Mend string // what to do; may be empty
}

func (e *WrongError) Error() string {
	text := fmt.Sprintf("what %s gave is not the model %s: %s", e.From, e.Name, e.What)
	if e.Mend != "" {
		text += ": " + e.Mend
	}
	return text
}

// RefusedError says that a connection was not made, since it could lead to where nobody
// meant to go.
type RefusedError struct {
	To  string // an address
	Why string // what about it is not allowed
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refusing %s: %s", e.To, e.Why) }

// SpaceError says that the disk has no room for a file. What was fetched of it is kept.
type SpaceError struct {
	Dir        string // on the disk
	Free, Need int64  // bytes; Free is -1 where it is not known
}

func (e *SpaceError) Error() string {
	if e.Free < 0 {
		return fmt.Sprintf("the disk of %s is full; what was fetched is kept: make room and run again to go on", e.Dir)
	}
	return fmt.Sprintf("the disk of %s has %s free, and %s are needed: make room and run again", e.Dir, memory.FormatBytes(e.Free), memory.FormatBytes(e.Need))
}

// BusyError says that another process is at work on a model.
type BusyError struct {
	Name string // of the model
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("another process is fetching the model %s: wait for its end", e.Name)
}

// statusError is an answer that is no file.
type statusError struct {
	url   string
	code  int
	after time.Duration // that the server wants to be left alone
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%s answers %d %s", e.url, e.code, http.StatusText(e.code))
	if e.code == http.StatusUnauthorized || e.code == http.StatusForbidden {
		text += ": it may want one to log in or to consent: get the file there, then forgepipe models add FILE"
	}
	return text
}

// passing tells whether it may be another one in a moment.
func (e *statusError) passing() bool {
	return e.code >= 500 || e.code == http.StatusTooManyRequests || e.code == http.StatusRequestTimeout || e.code == http.StatusTooEarly
}

// unreached says of a server that gives no answer what may help.
func (d *download) unreached(url string, err error) error {
	if errors.As(err, new(*RefusedError)) {
		return err
	}
	if of := (*neturl.Error)(nil); errors.As(err, &of) { // where it has been led to
		url, err = of.URL, of.Err
	}
	return fmt.Errorf("no answer from %s: %w: see whether this machine reaches it (HTTPS_PROXY names a proxy), or bring the file with forgepipe models add %s --name %s", url, err, d.entry.File, d.entry.Name)
}
