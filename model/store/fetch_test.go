package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

var data = content(200_000)

func TestFetch(t *testing.T) {
	t.Parallel()
	site := newSite(t, whole(data, `"one"`))
	s := storeOf(t, Entry{URLs: []string{site.URL + "/m.pth"}, Size: int64(len(data)), SHA256: sumOf(data)})
	var seen []Progress
	o := site.options()
	o.Progress = func(p Progress) { seen = append(seen, p) }
	rec, fetched, err := s.Fetch(t.Context(), "m", o)
	if err != nil || !fetched {
		t.Fatal(fetched, err)
	}
	if placed(t, s) != string(data) || part(s) != "" {
		t.Error("the file is not in its place, or a part is left")
	}
	if f := rec.Files[0]; f.SHA256 != sumOf(data) || f.Size != int64(len(data)) || rec.Source != site.URL+"/m.pth" || rec.Time.IsZero() {
		t.Errorf("recorded as %+v", rec)
	}
	if last := seen[len(seen)-1]; last.Done != int64(len(data)) || last.Total != last.Done {
		t.Errorf("the last progress is %+v", last)
	}
	if _, fetched, err = s.Fetch(t.Context(), "m", o); err != nil || fetched || site.asked() != 1 {
		t.Errorf("a second time: %v, %v, %d requests", fetched, err, site.asked())
	}
	f, err := s.Find("m")
	if err != nil || f.Path != s.path("m", "m.pth") || f.Name != "m" {
		t.Errorf("found %+v: %v", f, err)
	}
	// Damage that neither size nor time show: fetch looks at the hash.
	info, _ := os.Stat(f.Path)
	bad := []byte(strings.Replace(string(data), "5", "6", 1))
	if err := errors.Join(os.WriteFile(f.Path, bad, 0o666), os.Chtimes(f.Path, time.Time{}, info.ModTime())); err != nil {
		t.Fatal(err)
	}
	if _, fetched, err = s.Fetch(t.Context(), "m", o); err != nil || !fetched || placed(t, s) != string(data) {
		t.Errorf("a damaged file is not mended: %v, %v", fetched, err)
	}
}

// Where a redirect or a name leads to an address that is not public, no connection is made.
func TestPrivateAddressesAreRefused(t *testing.T) {
	t.Parallel()
	var there atomic.Value
	site := newSite(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, there.Load().(string), http.StatusFound)
	})
	for _, to := range []string{
		"https://127.0.0.1:1/x", "https://10.1.2.3/x", "https://169.254.169.254/latest/meta-data", "https://100.64.0.1/", "https://[::1]/x",
		"https://[::ffff:10.0.0.1]/", "https://[fd00::1]/", "https://[fe80::1%25lo]/", "https://localhost:1/", "https://0.0.0.0/", "https://2130706433/",
	} {
		there.Store(to)
		s := storeOf(t, Entry{URLs: []string{site.URL + "/m.pth"}})
		_, _, err := s.Fetch(t.Context(), "m", site.options())
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "public") && !strings.Contains(err.Error(), "number") {
			t.Errorf("%s: %v", to, err)
		}
	}
	// The site itself is on this machine.
	s := storeOf(t, Entry{URLs: []string{site.URL + "/m.pth"}})
	o := site.options()
	o.Allow = nil
	before := site.asked()
	_, _, err := s.Fetch(t.Context(), "m", o)
	wantError(t, err, "public")
	if site.asked() != before {
		t.Error("it was asked all the same")
	}
}

// The proxy that the user has named may be anywhere. What it is asked for may not, as far
// as that can be seen.
func TestProxy(t *testing.T) {
	t.Parallel()
	site := newSite(t, whole(data, `"one"`))
	target := site.Listener.Addr().String()
	var mu sync.Mutex
	var tunnels []string
	proxy := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		tunnels = append(tunnels, r.Host)
		mu.Unlock()
		w.WriteHeader(http.StatusOK)
		client, sent, err := w.(http.Hijacker).Hijack() // sent has what has been read already
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", target)
		if err != nil {
			client.Close()
			return
		}
		go func() { _, _ = io.Copy(server, sent); server.Close() }()
		_, _ = io.Copy(client, server)
		client.Close()
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = proxy.Serve(l) }()
	defer proxy.Close()
	o := site.options()
	o.Allow = nil
	o.proxy = func(*http.Request) (*url.URL, error) { return url.Parse("http://" + l.Addr().String()) }
	s := storeOf(t, Entry{URLs: []string{"https://example.com/m.pth"}}) // the site's certificate has that name
	if _, _, err := s.Fetch(t.Context(), "m", o); err != nil || placed(t, s) != string(data) {
		t.Fatal(err)
	}
	for _, to := range []string{"https://10.0.0.1/", "https://LOCALHOST./", "https://[::1]/", "https://127.1/", "https://2130706433:9/a.pth", "https://0x7f000001./", "https://127.0.0.0x1/"} {
		s := storeOf(t, Entry{URLs: []string{to}})
		if _, _, err := s.Fetch(t.Context(), "m", o); !errors.As(err, new(*RefusedError)) {
			t.Errorf("%s: %v", to, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(tunnels) != 1 || tunnels[0] != "example.com:443" {
		t.Errorf("the proxy was asked for %q", tunnels)
	}
}

func TestMirrors(t *testing.T) {
	t.Parallel()
	site := newSite(t, func(k int, w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			w.WriteHeader(http.StatusNotFound)
		case "/other":
			whole([]byte(strings.ToUpper(string(data))), `"x"`)(k, w, r)
		case "/cut":
			cut(w, data, 120_000)
		default:
			whole(data, `"one"`)(k, w, r)
		}
	})
	s := storeOf(t, Entry{URLs: []string{site.URL + "/gone", site.URL + "/other", site.URL + "/cut", site.URL + "/right"}, Size: int64(len(data)), SHA256: sumOf(data)})
	rec, _, err := s.Fetch(t.Context(), "m", site.options())
	if err != nil || rec.Source != site.URL+"/right" || placed(t, s) != string(data) {
		t.Fatal(rec, err)
	}
	// The hash is known, so that the part of one is gone on with at another.
	if last := site.last(); last.Header.Get("Range") != "bytes=120000-" {
		t.Errorf("the last one was asked for %q", last.Header.Get("Range"))
	}
	none := storeOf(t, Entry{URLs: []string{site.URL + "/gone", site.URL + "/other"}, Size: int64(len(data)), SHA256: sumOf(data)})
	_, _, err = none.Fetch(t.Context(), "m", site.options())
	wantError(t, err, "/gone answers 404", "/other", "sha256")
}

// An address without an answer: it is said what may help.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	site := newSite(t, whole(data, ""))
	site.Close()
	s := storeOf(t, Entry{URLs: []string{site.URL + "/m.pth"}})
	_, _, err := s.Fetch(t.Context(), "m", site.options())
	wantError(t, err, "no answer from "+site.URL+"/m.pth: dial tcp", "HTTPS_PROXY", "forgepipe models add m.pth --name m", "after 5 tries")
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v lacks its cause", err)
	}
}

// A connection over which nothing comes is given up.
func TestStalledServer(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	site := newSite(t, func(k int, w http.ResponseWriter, r *http.Request) {
		if k == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			_, _ = w.Write(data[:70_000])
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-done:
			}
			return
		}
		whole(data, "")(k, w, r)
	})
	defer close(done)
	s := storeOf(t, Entry{URLs: []string{site.URL + "/m.pth"}, Size: int64(len(data)), SHA256: sumOf(data)})
	o := site.options()
	o.idle = 200 * time.Millisecond
	if _, _, err := s.Fetch(t.Context(), "m", o); err != nil || placed(t, s) != string(data) || site.asked() != 2 {
		t.Errorf("%v after %d requests", err, site.asked())
	}
}

// What has come before an interruption is not fetched again.
func TestInterruptedFetchGoesOn(t *testing.T) {
	t.Parallel()
	for name, hash := range map[string]string{"known hash": sumOf(data), "unknown hash": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			site := newSite(t, func(k int, w http.ResponseWriter, r *http.Request) {
				if k > 1 {
					whole(data, `"one"`)(k, w, r)
					return
				}
				w.Header().Set("ETag", `"one"`)
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				_, _ = w.Write(data[:90_000])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})
			e := Entry{URLs: []string{site.URL + "/m.pth"}, SHA256: hash}
			s := storeOf(t, e)
			ctx, cancel := context.WithCancelCause(t.Context())
			stop := errors.New("interrupted")
			o := site.options()
			o.Progress = func(p Progress) {
				if p.Done > 20_000 {
					cancel(stop)
				}
			}
			if _, _, err := s.Fetch(ctx, "m", o); !errors.Is(err, stop) {
				t.Fatal(err)
			}
			kept := len(part(s))
			if placed(t, s) != "" || kept == 0 {
				t.Fatalf("%d bytes are kept", kept)
			}
			list, err := s.List()
			if err != nil || list[0].Partial != int64(kept) {
				t.Errorf("listed as %+v, %v", list, err)
			}
			if _, _, err := s.Fetch(t.Context(), "m", site.options()); err != nil || placed(t, s) != string(data) {
				t.Fatal(err)
			}
			if got := site.last().Header.Get("Range"); got != fmt.Sprintf("bytes=%d-", kept) {
				t.Errorf("asked for %q with %d bytes there", got, kept)
			}
		})
	}
}

// After a loss of power a part may have zeros for its end. Where no hash tells, it is
// fetched anew.
func TestPartOfAnotherBoot(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ hash, before, after, want string }{
		"unknown hash":                         {"", "today", "tomorrow", ""},
		"unknown hash, the start is not known": {"", "", "today", ""},
		"unknown hash, the same start":         {"", "today", "today", "bytes=100000-"},
		"known hash":                           {sumOf(data), "today", "tomorrow", "bytes=100000-"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			site := newSite(t, whole(data, `"one"`))
			s := storeOf(t, Entry{URLs: []string{site.URL + "/m.pth"}, SHA256: tt.hash})
			r := root(t, s)
			about, err := json.Marshal(partState{URL: site.URL + "/m.pth", Validator: `"one"`, Size: int64(len(data)), Boot: tt.before})
			if err != nil {
				t.Fatal(err)
			}
			kept := data[:100_000]
			if tt.want == "" {
				kept = append(bytes.Clone(data[:50_000]), make([]byte, 50_000)...)
			}
			if err := errors.Join(r.MkdirAll(partialDir), os.WriteFile(filepath.Join(s.dir, partialDir, "m"), kept, 0o666),
				os.WriteFile(filepath.Join(s.dir, partialDir, "m.json"), about, 0o666)); err != nil {
				t.Fatal(err)
			}
			o := site.options()
			o.boot = tt.after
			if _, _, err := s.Fetch(t.Context(), "m", o); err != nil {
				t.Fatal(err)
			}
			if placed(t, s) != string(data) {
				t.Error("a wrong file is in place")
			}
			if got := site.last().Header.Get("Range"); got != tt.want {
				t.Errorf("asked for %q, want %q", got, tt.want)
			}
		})
	}
}

// A hash that nobody states is that of the first time, also after the file was removed.
func TestFirstHashIsKept(t *testing.T) {
	t.Parallel()
	var now atomic.Value
	now.Store(data)
	site := newSite(t, func(k int, w http.ResponseWriter, r *http.Request) { whole(now.Load().([]byte), "")(k, w, r) })
	s := storeOf(t, Entry{URLs: []string{site.URL + "/m.pth"}})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := s.Fetch(t.Context(), "m", site.options())
	must(err)
	now.Store(content(190_000))
	freed, err := s.Remove(t.Context(), "m", RemoveOptions{})
	must(err)
	if freed != int64(len(data)) || placed(t, s) != "" {
		t.Errorf("%d bytes freed", freed)
	}
	if _, err := s.Find("m"); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "forgepipe models fetch m") {
		t.Errorf("found: %v", err)
	}
	_, _, err = s.Fetch(t.Context(), "m", site.options())
	wantError(t, err, "190000 bytes instead of the 200000", "the first time", "rm --forget m")
	if _, err = s.Remove(t.Context(), "m", RemoveOptions{Forget: true}); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Fetch(t.Context(), "m", site.options())
	must(err)
	if placed(t, s) != string(content(190_000)) {
		t.Error("it has not the new bytes")
	}
}

func TestNoRoomOnTheDisk(t *testing.T) {
	t.Parallel()
	huge := newSite(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4611686018427387904")
		w.WriteHeader(200)
	})
	s := storeOf(t, Entry{URLs: []string{huge.URL}, Size: 1 << 62, SHA256: sumOf(data)})
	_, _, err := s.Fetch(t.Context(), "m", huge.options())
	wantError(t, err, "4 EiB are needed", s.dir)
	if huge.asked() != 1 {
		t.Errorf("%d requests", huge.asked())
	}
	site := newSite(t, whole(data, `"one"`))
	full := storeOf(t, Entry{URLs: []string{site.URL, site.URL + "/mirror"}, Size: int64(len(data)), SHA256: sumOf(data)})
	faulty := fsys.FailAt(fsys.OS, nthWrite(t, site, 2), syscall.ENOSPC)
	full.fs = faulty
	_, _, err = full.Fetch(t.Context(), "m", site.options())
	wantError(t, err, "is full", "kept", "run again")
	if !strings.HasPrefix(faulty.Failed(), "write .partial/m") || part(full) == "" {
		t.Errorf("%s failed, %d bytes are kept", faulty.Failed(), len(part(full)))
	}
	full.fs = fsys.OS
	if _, _, err = full.Fetch(t.Context(), "m", site.options()); err != nil || placed(t, full) != string(data) {
		t.Error(err)
	}
}

// nthWrite finds which operation of a fetch is the nth one that writes to the part.
func nthWrite(t *testing.T, site *site, n int) int64 {
	t.Helper()
	for at := int64(1); ; at++ {
		s := storeOf(t, Entry{URLs: []string{site.URL}, Size: int64(len(data)), SHA256: sumOf(data)})
		f := fsys.FailAt(fsys.OS, at, syscall.EIO)
		s.fs = f
		_, _, err := s.Fetch(t.Context(), "m", site.options())
		if err == nil {
			t.Fatal("there are not so many writes")
		}
		if f.Failed() == "write .partial/m" {
			if n--; n == 0 {
				return at
			}
		}
	}
}

// Whatever operation of the disk fails, and nothing works after it, as after a crash: in
// place is the whole file or none, and the next time ends well.
func TestEveryOperationFails(t *testing.T) {
	t.Parallel()
	small := content(3000)
	site := newSite(t, whole(small, `"one"`))
	for n := int64(1); ; n++ {
		s := storeOf(t, Entry{URLs: []string{site.URL}})
		f := fsys.FailAt(fsys.OS, n, syscall.EIO)
		f.Sticky = true
		s.fs = f
		_, _, err := s.Fetch(t.Context(), "m", site.options())
		if f.Failed() == "" {
			if err != nil || n < 8 {
				t.Errorf("%v after %d operations", err, n)
			}
			break
		}
		if got := placed(t, s); got != "" && got != string(small) {
			t.Errorf("%s: a wrong file is in place", f.Failed())
		}
		if err == nil && placed(t, s) == "" {
			t.Errorf("%s: no error, and no file", f.Failed())
		}
		s.fs = fsys.OS
		if _, _, err := s.Fetch(t.Context(), "m", site.options()); err != nil || placed(t, s) != string(small) {
			t.Errorf("after %s: %v", f.Failed(), err)
		}
		if verdicts, err := s.Verify(t.Context()); err != nil || len(verdicts) != 1 || verdicts[0].Fault != nil {
			t.Errorf("after %s: %+v, %v", f.Failed(), verdicts, err)
		}
		if left, _ := filepath.Glob(filepath.Join(s.dir, partialDir, "*")); len(left) > 0 {
			t.Errorf("after %s: left over are %q", f.Failed(), left)
		}
	}
}

func TestWhatCannotBeFetched(t *testing.T) {
	t.Parallel()
	s := storeOf(t, Entry{Bring: "log in at its page", Page: "https://example.com/m"})
	_, _, err := s.Fetch(t.Context(), "m", FetchOptions{})
	wantError(t, err, "log in at its page", "https://example.com/m", "forgepipe models add m.pth --name m")
	_, _, err = s.Fetch(t.Context(), "x", FetchOptions{})
	var unknown *UnknownError
	if !errors.As(err, &unknown) {
		t.Error(err)
	}
}
