package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// content is a file of format pth, of a size that is no multiple of anything.
func content(n int) []byte {
	b := bytes.Repeat([]byte("0123456789abcdef-"), n/17+1)[:n]
	copy(b, "PK\x03\x04")
	return b
}

func sumOf(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// A site is a server with TLS on this machine that serves as a test says, and counts.
type site struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
}

func newSite(t *testing.T, serve func(n int, w http.ResponseWriter, r *http.Request)) *site {
	t.Helper()
	s := &site{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r)
		n := len(s.requests)
		s.mu.Unlock()
		serve(n, w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *site) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// last is the last request.
func (s *site) last() *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[len(s.requests)-1]
}

// options let this site be fetched from, and nothing else that is not public.
func (s *site) options() FetchOptions {
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	here := netip.MustParseAddrPort(s.Listener.Addr().String())
	return FetchOptions{
		RootCAs: roots, Allow: func(a netip.AddrPort) bool { return a == here },
		proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
		pause: func(context.Context, time.Duration) error { return nil },
		boot:  "today",
	}
}

// whole serves a file with ranges and an ETag, as servers do.
func whole(data []byte, tag string) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, r *http.Request) {
		if tag != "" {
			w.Header().Set("ETag", tag)
		}
		http.ServeContent(w, r, "m.pth", time.Time{}, bytes.NewReader(data))
	}
}

// cut sends a part of what an answer should have, and ends the connection.
func cut(w http.ResponseWriter, data []byte, n int) {
	w.Header().Set("Content-Length", fmt.Sprint(len(data)))
	_, _ = w.Write(data[:n])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// storeOf has one model, "m", of format pth.
func storeOf(t *testing.T, e Entry) *Store {
	t.Helper()
	e.Name, e.Format, e.Licence = "m", FormatPyTorch, "unknown"
	if e.File == "" {
		e.File = "m.pth"
	}
	return &Store{dir: filepath.Join(t.TempDir(), "models"), registry: Registry{e}, fs: fsys.OS}
}

// placed is what lies at the place of the model; "" is nothing.
func placed(t *testing.T, s *Store) string {
	t.Helper()
	data, err := os.ReadFile(s.path("m", "m.pth"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(data)
}

// part is what has been fetched and is not in its place.
func part(s *Store) string {
	data, _ := os.ReadFile(filepath.Join(s.dir, partialDir, "m"))
	return string(data)
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("the error %q does not say %q", err, p)
		}
	}
}
