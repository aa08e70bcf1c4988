package store

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// fetchVariable makes this program one that fetches: the store's folder, the address and
// the file with the certificates.
const fetchVariable = "FORGEPIPE_TEST_FETCH"

func TestMain(m *testing.M) {
	if what := os.Getenv(fetchVariable); what != "" {
		if err := fetchAlone(strings.Split(what, "|")); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func fetchAlone(what []string) error {
	certs, err := os.ReadFile(what[2])
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certs)
	told := ""
	s := &Store{dir: what[0], registry: Registry{{Name: "m", Format: FormatPyTorch, File: "m.pth", URLs: []string{what[1]}}}, fs: fsys.OS}
	_, fetched, err := s.Fetch(context.Background(), "m", FetchOptions{
		RootCAs: roots, Allow: func(netip.AddrPort) bool { return true }, proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
		Progress: func(p Progress) {
			now := "fetching"
			if p.Waiting {
				now = "waiting"
			}
			if now != told {
				fmt.Println(now)
				told = now
			}
		},
	})
	if err == nil {
		fmt.Println("fetched:", fetched)
	}
	return err
}

// A worker is a process that fetches.
type worker struct {
	cmd  *exec.Cmd
	said *bufio.Scanner
}

func startWorker(t *testing.T, s *Store, site *site) *worker {
	t.Helper()
	certs := t.TempDir() + "/certs"
	if err := os.WriteFile(certs, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw}), 0o666); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fetchVariable+"="+strings.Join([]string{s.dir, site.URL, certs}, "|"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return &worker{cmd, bufio.NewScanner(out)}
}

// says waits for a line.
func (w *worker) says(t *testing.T, want string) {
	t.Helper()
	if !w.said.Scan() || w.said.Text() != want {
		t.Fatalf("it says %q, not %q", w.said.Text(), want)
	}
}

// Of two processes one fetches, and the other one waits and has the file too. When the
// first is killed, the second goes on where that was.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]bool{"both live": false, "the first is killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{})
			site := newSite(t, func(k int, w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"one"`)
				if k > 1 {
					whole(data, `"one"`)(k, w, r)
					return
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				_, _ = w.Write(data[:100_000])
				w.(http.Flusher).Flush()
				select {
				case <-hold:
				case <-r.Context().Done():
				}
				_, _ = w.Write(data[100_000:])
			})
			s := storeOf(t, Entry{URLs: []string{site.URL}})
			first := startWorker(t, s, site)
			first.says(t, "fetching")
			second := startWorker(t, s, site)
			second.says(t, "waiting")
			if kill {
				for end := time.Now().Add(time.Minute); len(part(s)) < 100_000; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatal("the first one does not write")
					}
				}
				if err := first.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = first.cmd.Wait()
				second.says(t, "fetching")
				second.says(t, "fetched: true")
				if r := site.last().Header.Get("Range"); r != "bytes=100000-" {
					t.Errorf("the second one asks for %q", r)
				}
			} else {
				close(hold)
				first.says(t, "fetched: true")
				second.says(t, "fetched: false")
				if site.asked() != 1 {
					t.Errorf("%d requests", site.asked())
				}
			}
			if err := second.cmd.Wait(); err != nil || placed(t, s) != string(data) {
				t.Errorf("%v, and %d bytes in place", err, len(placed(t, s)))
			}
		})
	}
}
