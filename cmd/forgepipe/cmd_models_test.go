package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/model/store"
)

// certsVariable names the file with the certificate of the server that serve starts.
const certsVariable = "FORGEPIPE_TEST_CERTS"

// nearby is forgepipe, and fetches from this machine too.
func nearby() {
	certs, err := os.ReadFile(os.Getenv(certsVariable))
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certs)
	fetching = func() store.FetchOptions {
		return store.FetchOptions{RootCAs: roots, Allow: func(a netip.AddrPort) bool { return a.Addr().IsLoopback() }}
	}
	main()
}

// oneModel makes a store that has a network, and has commands use it.
func oneModel(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv(store.Variable, filepath.Join(dir, "models"))
	file := filepath.Join(dir, "net.onnx")
	if err := testnet.Embedder(testnet.EmbedderOptions{Size: 32}).WriteFile(file); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(os.Getenv(store.Variable))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Add(t.Context(), file, "mine"); err != nil {
		t.Fatal(err)
	}
}

// serveModels serves a folder over https until the script ends, and writes a registry of
// one's own, in which SERVER stands for the server: serve FOLDER REGISTRY. What lies
// below /slow/ comes to its half only.
func serveModels(ts *testscript.TestScript, _ bool, args []string) {
	files := http.FileServer(http.Dir(ts.MkAbs(args[0])))
	mux := http.NewServeMux()
	mux.Handle("/", files)
	mux.HandleFunc("/slow/", func(w http.ResponseWriter, r *http.Request) {
		data, err := os.ReadFile(filepath.Join(ts.MkAbs(args[0]), filepath.Base(r.URL.Path)))
		if err != nil || r.Header.Get("Range") != "" {
			r.URL.Path = "/" + filepath.Base(r.URL.Path)
			files.ServeHTTP(w, r)
			return
		}
		info, err := os.Stat(filepath.Join(ts.MkAbs(args[0]), filepath.Base(r.URL.Path)))
		if err != nil {
			return
		}
		w.Header().Set("Last-Modified", info.ModTime().UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	ts.Defer(server.Close)
	certs := ts.MkAbs("certs.pem")
	ts.Check(os.WriteFile(certs, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o666))
	ts.Setenv(certsVariable, certs)
	ts.Setenv("SERVER", server.URL)
	text := os.Expand(ts.ReadFile(args[1]), func(name string) string { return ts.Getenv(name) })
	ts.Check(os.MkdirAll(ts.MkAbs("models"), 0o777))
	ts.Check(os.WriteFile(ts.MkAbs("models/registry.json"), []byte(text), 0o666))
	ts.Setenv(store.Variable, ts.MkAbs("models"))
}
