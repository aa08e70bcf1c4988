package store

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// What servers and networks do wrong ends in the right file, or in an error that says
// what it was, and never in a wrong file.
func TestServers(t *testing.T) {
	t.Parallel()
	n := len(data)
	for name, tt := range map[string]struct {
		serve   func(n int, w http.ResponseWriter, r *http.Request)
		unknown bool   // size and hash are
		right   string // what is served in the end; "": an error
		errors  []string
		asked   int    // 0: any number
		part    string // what is kept of it: "some", or nothing
	}{
		"the connection is cut again and again": {
			serve: func(k int, w http.ResponseWriter, r *http.Request) {
				if k < 4 {
					w.Header().Set("ETag", `"one"`)
					at := 0
					if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at); err == nil {
						w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, n-1, n))
						w.Header().Set("Content-Length", fmt.Sprint(n-at))
						w.WriteHeader(http.StatusPartialContent)
						_, _ = w.Write(data[at : at+50_000])
						w.(http.Flusher).Flush()
						panic(http.ErrAbortHandler)
					}
					cut(w, data, 50_000)
				}
				whole(data, `"one"`)(k, w, r)
			}, right: string(data), asked: 4,
		},
		"it is always cut": {
			serve:  func(_ int, w http.ResponseWriter, _ *http.Request) { cut(w, data, 1000) },
			errors: []string{"after 5 tries", "run again"}, asked: 5, part: "some",
		},
		"a server without ranges": {
			serve: func(k int, w http.ResponseWriter, _ *http.Request) {
				if k == 1 {
					cut(w, data, 90_000)
				}
				_, _ = w.Write(data)
			}, right: string(data), asked: 2,
		},
		"the file changes meanwhile": {
			unknown: true,
			serve: func(k int, w http.ResponseWriter, r *http.Request) {
				if k == 1 {
					w.Header().Set("ETag", `"old"`)
					cut(w, content(250_000), 90_000)
				}
				whole(data, `"new"`)(k, w, r)
			}, right: string(data), asked: 2,
		},
		"it changes, and nothing tells": {
			unknown: true,
			serve: func(k int, w http.ResponseWriter, r *http.Request) {
				if k == 1 {
					cut(w, append([]byte("PK\x03\x04"), bytes.Repeat([]byte("x"), 200_000)...), 90_000)
				}
				whole(data, "")(k, w, r)
			}, right: string(data), asked: 2,
		},
		"it changes, and its tag is weak": {
			unknown: true,
			serve: func(k int, w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `W/"one"`)
				if k == 1 {
					cut(w, append([]byte("PK\x03\x04"), bytes.Repeat([]byte("x"), 200_000)...), 90_000)
				}
				r.Header.Del("If-Range") // a server that takes it for the same
				whole(data, "")(k, w, r)
			}, right: string(data), asked: 2,
		},
		"it changes, and the server does not notice": {
			serve: func(k int, w http.ResponseWriter, r *http.Request) {
				if k == 1 {
					cut(w, []byte(strings.ToUpper(string(data))), 90_000)
				}
				r.Header.Del("If-Range")
				whole(data, "")(k, w, r)
			}, right: string(data), asked: 3,
		},
		"another part than asked for": {
			serve: func(k int, w http.ResponseWriter, r *http.Request) {
				switch {
				case k == 1:
					w.Header().Set("ETag", `"one"`)
					cut(w, data, 90_000)
				case r.Header.Get("Range") != "":
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", 10, n-1, n))
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write(data[10:])
				default:
					_, _ = w.Write(data)
				}
			}, right: string(data), asked: 3,
		},
		"a part that nobody asked for": {
			serve: func(_ int, w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", n-1, n))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(data)
			}, errors: []string{"206"}, asked: 1,
		},
		"wrong bytes": {
			serve:  whole([]byte(strings.ToUpper(string(data))), `"one"`),
			errors: []string{"sha256", sumOf(data), "the registry"}, asked: 1,
		},
		"wrong length": {
			serve:  whole(data[:n-1], `"one"`),
			errors: []string{"199999 bytes instead of the 200000"}, asked: 1,
		},
		"more bytes than it should have, unannounced": {
			serve: func(_ int, w http.ResponseWriter, _ *http.Request) {
				w.(http.Flusher).Flush()
				_, _ = w.Write(append(data[:n:n], "more"...))
			}, errors: []string{"more than 200000 bytes"}, asked: 1,
		},
		"fewer bytes than it should have, unannounced": {
			serve: func(_ int, w http.ResponseWriter, _ *http.Request) {
				w.(http.Flusher).Flush()
				_, _ = w.Write(data[:1000])
			}, errors: []string{"ended after 1000 of 200000 bytes"},
		},
		"too large": {
			unknown: true,
			serve:   whole(content(2<<20), `"one"`),
			errors:  []string{"more than 1048576 bytes", "--max-size"}, asked: 1,
		},
		"too large, unannounced": {
			unknown: true,
			serve: func(_ int, w http.ResponseWriter, _ *http.Request) {
				w.(http.Flusher).Flush()
				_, _ = w.Write(content(2 << 20))
			}, errors: []string{"more than 1048576 bytes", "--max-size"}, asked: 1,
		},
		"a page in place of the file": {
			unknown: true,
			serve:   whole([]byte("<!DOCTYPE html><title>Consent</title>"), ""),
			errors:  []string{"no file of format pth", "<!DOCTYPE html>"}, asked: 1,
		},
		"not there":    {serve: func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, errors: []string{"404 Not Found"}, asked: 1},
		"not for us":   {serve: func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, errors: []string{"403", "models add"}, asked: 1},
		"out of order": {serve: func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, errors: []string{"503", "after 5 tries"}, asked: 5},
		"busy at first": {serve: func(k int, w http.ResponseWriter, r *http.Request) {
			if k == 1 {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(429)
				return
			}
			whole(data, `"one"`)(k, w, r)
		}, right: string(data), asked: 2},
		"redirects in circles": {
			serve:  func(_ int, w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) },
			errors: []string{"circles"}, asked: 11,
		},
		"a redirect": {
			serve: func(k int, w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/there" {
					http.Redirect(w, r, "/there", http.StatusFound)
					return
				}
				whole(data, `"one"`)(k, w, r)
			}, right: string(data), asked: 2,
		},
		"a redirect to http": {
			serve: func(_ int, w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://example.com/m.pth", http.StatusFound)
			},
			errors: []string{"http://example.com", "leads there", "not https"}, asked: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			site := newSite(t, tt.serve)
			e := Entry{URLs: []string{site.URL + "/m.pth"}, Size: int64(n), SHA256: sumOf(data)}
			if tt.unknown {
				e.Size, e.SHA256 = 0, ""
			}
			s := storeOf(t, e)
			o := site.options()
			o.MaxBytes = 1 << 20
			_, _, err := s.Fetch(t.Context(), "m", o)
			if placed(t, s) != tt.right {
				t.Errorf("in its place are %d bytes, want %d", len(placed(t, s)), len(tt.right))
			}
			if tt.right == "" {
				wantError(t, err, tt.errors...)
				if r, err := s.readRecords(); err != nil || len(r.Models) > 0 {
					t.Errorf("recorded: %v, %v", r.Models, err)
				}
			} else if err != nil {
				t.Error(err)
			}
			if tt.asked > 0 && site.asked() != tt.asked {
				t.Errorf("%d requests, want %d", site.asked(), tt.asked)
			}
			if kept := part(s); tt.part != "" && kept == "" || kept != "" && !strings.HasPrefix(string(data), kept) {
				t.Errorf("%d bytes are kept that are no part of the file", len(kept))
			}
		})
	}
}
