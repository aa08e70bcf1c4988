package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

func TestBuiltin(t *testing.T) {
	r := Builtin()
	if len(r) < 10 {
		t.Errorf("only %d models", len(r))
	}
	for _, e := range r {
		switch {
		case e.Preset != "" && !slices.Contains(model.Presets(), e.Preset):
			t.Errorf("%s: there is no preset %q", e.Name, e.Preset)
		case e.Task == "" || e.Architecture == "" || e.Licence == "" || e.Page == "":
			t.Errorf("%s: task, architecture, licence or page is missing", e.Name)
		case (e.SHA256 != "" || e.Size > 0) != (e.StatedBy != ""):
			t.Errorf("%s: who states its size and hash?", e.Name)
		case formatOf(e.File) != e.Format:
			t.Errorf("%s: format %s of %s", e.Name, e.Format, e.File)
		}
	}
}

func TestParseRegistry(t *testing.T) {
	good := `{"name": "a", "format": "onnx", "file": "a.onnx", "licence": "MIT", "urls": ["https://example.com/a"]}`
	with := func(old, new string) string { return `{"models": [` + strings.Replace(good, old, new, 1) + `]}` }
	for name, tt := range map[string]struct{ text, want string }{
		"right":                 {with("", ""), ""},
		"a member that is none": {with(`"name"`, `"nom"`), "nom"},
		"twice":                 {`{"models": [` + good + "," + good + `]}`, "twice"},
		"http":                  {with("https:", "http:"), "not https"},
		"a user":                {with("https://", "https://me:secret@"), "user"},
		"a host that is short":  {with("example.com", "127.1"), "number"},
		"a host in digits":      {with("example.com", "2130706433:8443"), "number"},
		"a host in hex":         {with("example.com", "a.0X7f"), "number"},
		"a host in octal":       {with("example.com", "127.0.0.01."), "number"},
		"a host of two dots":    {with("example.com", "127.1.."), "number"},
		"a host in full width":  {with("example.com", "1\uff12\uff17.1"), "ASCII"},
		"a host that is one":    {with("example.com", "93.184.215.14"), ""},
		"a host with digits":    {with("example.com", "2.example0x1.co2:443"), ""},
		"a name with a dot":     {with(`"a"`, `"a.b"`), "letters"},
		"a file elsewhere":      {with(`a.onnx`, `../a.onnx`), "no name of a file"},
		"a hidden file":         {with(`a.onnx`, `.onnx`), "no name of a file"},
		"no format":             {with(`"onnx"`, `"exe"`), "format"},
		"a short hash":          {with(`"licence"`, `"sha256": "12", "licence"`), "64 digits"},
		"no way to it":          {with(`"https://example.com/a"`, ``), "neither urls nor bring"},
		"beside itself":         {with(`"licence"`, `"beside": ["a"], "licence"`), `beside "a" is no other model`},
		"beside a file":         {with(`"licence"`, `"beside": ["b.pth"], "licence"`), `beside "b.pth" is no other model`},
		"no JSON":               {"models:", "invalid"},
		"more behind it":        {with("", "") + ` {"models": []}`, "there is more"},
		"a bracket too many":    {with("", "") + "}", "there is more"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := ParseRegistry([]byte(tt.text))
			if tt.want == "" {
				if err != nil || len(r) != 1 {
					t.Error(err)
				}
				return
			}
			wantError(t, err, tt.want)
		})
	}
}

// The registry in the store's folder goes before the built-in one.
func TestOwnRegistry(t *testing.T) {
	dir := t.TempDir()
	text := `{"models": [{"name": "vgg16", "format": "onnx", "file": "v.onnx", "licence": "ours", "urls": ["https://example.com/v"]},
		{"name": "ours", "format": "onnx", "file": "o.onnx", "licence": "ours", "preset": "clip", "bring": "ask us"}]}`
	file := filepath.Join(dir, registryName)
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil || len(list) != len(Builtin())+1 {
		t.Fatalf("%d models, %v", len(list), err)
	}
	if e, _ := s.registry.Find("vgg16"); e.Licence != "ours" {
		t.Errorf("vgg16 is %+v", e)
	}
	if err := os.WriteFile(file, []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir)
	wantError(t, err, file)
}

func TestPublicAddresses(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "140.82.112.3": true, "2606:4700::1111": true, "64:ff9b::808:808": true, "::ffff:8.8.8.8": true,
		"10.0.0.1": false, "172.31.255.255": false, "172.32.0.1": true, "192.168.1.1": false, "127.0.0.1": false, "0.0.0.0": false,
		"169.254.169.254": false, "100.64.0.1": false, "100.128.0.1": true, "198.19.0.1": false, "224.0.0.1": false, "255.255.255.255": false,
		"192.0.2.1": false, "::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd00:ec2::254": false,
		"ff02::1": false, "::ffff:10.0.0.1": false, "64:ff9b::a00:1": false, "64:ff9b:1::a00:1": false, "2002:a00:1::": false,
		"2001::1": false, "2001:db8::1": false, "3fff::1": false, "::10.0.0.1": false, "2001:4860:4860::8888": true,
	} {
		if got := public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestFindTakesPaths(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv(Variable, filepath.Join(dir, "models"))
	if err := os.WriteFile("plain", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"plain": "plain", "a.onnx": "a.onnx", "./a": "./a", "/x/y.pth": "/x/y.pth", "no such": "no such"} {
		if f, err := Find(text); err != nil || f.Path != want || f.Name != "" {
			t.Errorf("%s: %+v, %v", text, f, err)
		}
	}
	_, err := Find("realesr-general")
	wantError(t, err, "no file realesr-general", "did you mean realesr-general-x4v3?")
	if _, err := Find("clip-vit-b32"); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
}

// A model whose weights come in two files is found when both are there.
func TestFindBeside(t *testing.T) {
	for _, e := range Builtin() {
		for _, name := range e.Beside {
			if _, ok := Builtin().Find(name); !ok {
				t.Errorf("%s: there is no model %s", e.Name, name)
			}
		}
	}
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "net.onnx")
	registry := `{"models": [
		{"name": "layers", "format": "onnx", "file": "l.onnx", "licence": "ours", "preset": "lpips", "beside": ["network"], "urls": ["https://example.com/l"]},
		{"name": "network", "format": "onnx", "file": "n.onnx", "licence": "ours", "preset": "imagenet", "beside": ["layers"], "urls": ["https://example.com/n"]}]}`
	if err := os.WriteFile(filepath.Join(dir, registryName), []byte(registry), 0o666); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	embedder(t, file)
	_, err = s.Find("layers")
	wantError(t, err, "the model layers is not in the store", "forgepipe models fetch layers")
	if _, _, err := s.Add(t.Context(), file, "layers"); err != nil {
		t.Fatal(err)
	}
	alone, err := s.Find("layers")
	if alone.Path == "" || len(alone.Beside) > 0 {
		t.Errorf("of the two files one is %+v", alone)
	}
	if wantError(t, err, "the model layers has its weights in two files, and the model network is not in the store", "forgepipe models fetch network"); !errors.Is(err, ErrMissing) {
		t.Errorf("%v is not ErrMissing", err)
	}
	if _, _, err := s.Add(t.Context(), file, "network"); err != nil {
		t.Fatal(err)
	}
	found, err := s.Find("layers")
	if err != nil || found.Preset != "lpips" || found.Path != filepath.Join(dir, "layers", "net.onnx") || !slices.Equal(found.Beside, []string{filepath.Join(dir, "network", "net.onnx")}) {
		t.Errorf("it is %+v, %v", found, err)
	}
}

func TestDefaultDir(t *testing.T) {
	for name, tt := range map[string]struct{ variable, data, home, want string }{
		"the variable":       {"here", "/data", "/home/me", "here"},
		"the data folder":    {"", "/data", "/home/me", "/data/forgepipe/models"},
		"a relative one":     {"", "data", "/home/me", "/home/me/.local/share/forgepipe/models"},
		"the home directory": {"", "", "/home/me", "/home/me/.local/share/forgepipe/models"},
		"nothing":            {"", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(Variable, tt.variable)
			t.Setenv("XDG_DATA_HOME", tt.data)
			t.Setenv("HOME", tt.home)
			got, err := DefaultDir()
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// embedder writes a small network.
func embedder(t *testing.T, file string) {
	t.Helper()
	if err := testnet.Embedder(testnet.EmbedderOptions{Size: 32}).WriteFile(file); err != nil {
		t.Fatal(err)
	}
}

// weightsBeside writes a small network with four more numbers, which lie in a file of
// their own: in the description of ONNX the fields of a model's graph (7), of its
// weights (5), and of where they are.
func weightsBeside(t *testing.T, file, beside string) {
	t.Helper()
	field := func(b []byte, n protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
	}
	number := func(b []byte, n protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
	}
	tensor := number(number(nil, 1, 4), 2, 1) // four of float32
	tensor = field(tensor, 8, []byte("more"))
	tensor = field(tensor, 13, field(field(nil, 1, []byte("location")), 2, []byte(beside)))
	tensor = number(tensor, 14, 1)
	old, err := testnet.Embedder(testnet.EmbedderOptions{Size: 32}).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for len(old) > 0 {
		n, kind, tag := protowire.ConsumeTag(old)
		size := tag + protowire.ConsumeFieldValue(n, kind, old[tag:])
		if n == 7 {
			graph, _ := protowire.ConsumeBytes(old[tag:])
			out = field(out, 7, field(bytes.Clone(graph), 5, tensor))
		} else {
			out = append(out, old[:size]...)
		}
		old = old[size:]
	}
	if err := errors.Join(os.WriteFile(file, out, 0o666), os.WriteFile(filepath.Join(filepath.Dir(file), beside), make([]byte, 16), 0o666)); err != nil {
		t.Fatal(err)
	}
}

func TestAdd(t *testing.T) {
	dir := t.TempDir()
	net := filepath.Join(dir, "my net.onnx")
	embedder(t, net)
	s := &Store{dir: filepath.Join(dir, "models"), registry: Registry{
		{Name: "brought", Format: FormatPyTorch, File: "b.pkl", SHA256: sumOf(data), Bring: "ask"},
	}, fs: fsys.OS}
	_, _, err := s.Add(t.Context(), net, "")
	wantError(t, err, `"my net" is no name`, "--name")
	name, rec, err := s.Add(t.Context(), net, "mine")
	if err != nil || name != "mine" || len(rec.Files) != 1 || rec.Source != net {
		t.Fatal(name, rec, err)
	}
	f, err := s.Find("mine")
	if err != nil || f.Name != "mine" {
		t.Fatal(f, err)
	}
	if _, err := model.Open(f.Path, model.FileOptions{}); err != nil {
		t.Error(err)
	}
	if _, _, err := s.Add(t.Context(), net, "mine"); err != nil {
		t.Errorf("a second time: %v", err)
	}
	write := func(name string, b []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for file, want := range map[string]struct {
		name string
		data []byte
		want []string
	}{
		"none.onnx":   {"", []byte("no network"), []string{"no ONNX model"}},
		"page.pth":    {"", []byte("<!DOCTYPE html>"), []string{"no file of format pth", "<!DOCTYPE"}},
		"a.txt":       {"", data, []string{".safetensors"}},
		"b.pkl":       {"", content(70), []string{"sha256", "of the registry", "download it again"}},
		"c.pth":       {"mine", data, []string{"instead of", "models.lock", "rm --forget mine"}},
		"d.onnx":      {"brought", nil, []string{"format onnx", "pth"}},
		"missing.pth": {"", nil, []string{"no such file"}},
	} {
		path := filepath.Join(dir, file)
		switch {
		case want.data != nil:
			write(file, want.data)
		case file == "d.onnx":
			embedder(t, path)
		}
		_, _, err := s.Add(t.Context(), path, want.name)
		wantError(t, err, want.want...)
	}
	brought := write("b.pkl", data)
	if name, _, err = s.Add(t.Context(), brought, ""); err != nil || name != "brought" {
		t.Errorf("the file of an entry has the name %q: %v", name, err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, partialDir, "*")); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
	// A full disk leaves nothing wrong.
	for n := int64(1); ; n++ {
		faulty := &Store{dir: filepath.Join(dir, fmt.Sprint("faulty", n)), fs: fsys.FailAt(fsys.OS, n, syscall.ENOSPC)}
		_, _, err := faulty.Add(t.Context(), brought, "m")
		if faulty.fs.(*fsys.Faulty).Failed() == "" {
			break
		}
		if err == nil && !exists(faulty.path("m", "b.pkl")) {
			t.Errorf("no error when %s failed", faulty.fs.(*fsys.Faulty).Failed())
		}
		if got, readErr := os.ReadFile(faulty.path("m", "b.pkl")); readErr == nil && !bytes.Equal(got, data) {
			t.Error("a wrong file is in place")
		}
		faulty.fs = fsys.OS
		if _, _, err := faulty.Add(t.Context(), brought, "m"); err != nil {
			t.Error(err)
		}
	}
}

// Weights beside an ONNX file come along.
func TestAddWithWeights(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "big.onnx")
	weightsBeside(t, file, "big.weights")
	s := &Store{dir: filepath.Join(dir, "models"), fs: fsys.OS}
	_, rec, err := s.Add(t.Context(), file, "")
	if err != nil || len(rec.Files) != 2 {
		t.Fatal(rec, err)
	}
	f, err := s.Find("big")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := model.Open(f.Path, model.FileOptions{}); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "big.weights")); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Add(t.Context(), file, "other")
	wantError(t, err, "looking for its weights")
	if err := os.Remove(s.path("big", "big.weights")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find("big"); !errors.Is(err, ErrMissing) {
		t.Errorf("found without its weights: %v", err)
	}
}

func TestVerifyAndRemove(t *testing.T) {
	site := newSite(t, whole(data, `"one"`))
	s := storeOf(t, Entry{URLs: []string{site.URL}})
	if _, _, err := s.Fetch(t.Context(), "m", site.options()); err != nil {
		t.Fatal(err)
	}
	path := s.path("m", "m.pth")
	verify := func() Verdict {
		t.Helper()
		v, err := s.Verify(t.Context())
		if err != nil || len(v) != 1 || v[0].Path != path {
			t.Fatal(v, err)
		}
		return v[0]
	}
	recorded := func() time.Time {
		t.Helper()
		r, err := s.readRecords()
		if err != nil {
			t.Fatal(err)
		}
		return r.Models["m"].Files[0].Modified
	}
	// Another time alone is no other file, and the record gets it.
	later := time.Now().Add(time.Hour).Truncate(time.Second)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find("m"); err != nil {
		t.Error(err)
	}
	if v := verify(); v.Fault != nil || !recorded().Equal(later) {
		t.Errorf("%+v, recorded as of %v", v, recorded())
	}
	// Other bytes are, whatever the size; of another time Find sees it too.
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), "5", "6", 1)), 0o666); err != nil {
		t.Fatal(err)
	}
	if v := verify(); v.Fault == nil || !strings.Contains(v.Fault.Error(), "sha256") || v.Mend != "forgepipe models fetch m" {
		t.Errorf("%+v", v)
	}
	if _, err := s.Find("m"); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
	if err := os.Truncate(path, 5); err != nil {
		t.Fatal(err)
	}
	if v := verify(); v.Fault == nil || !strings.Contains(v.Fault.Error(), "5 bytes instead of 200000") {
		t.Errorf("%+v", v)
	}
	if _, err := s.Verify(t.Context(), "n"); !errors.As(err, new(*UnknownError)) {
		t.Error(err)
	}
	stranger := s.path("m", "notes.txt")
	if err := os.WriteFile(stranger, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), "m", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if !exists(stranger) || exists(path) {
		t.Error("rm removes what is not the store's, or leaves what is")
	}
	if _, err := s.Remove(t.Context(), "n", RemoveOptions{}); !errors.As(err, new(*UnknownError)) {
		t.Error(err)
	}
	unlock, err := s.tryLock(root(t, s), "m")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := s.Remove(t.Context(), "m", RemoveOptions{}); !errors.As(err, new(*BusyError)) {
		t.Error(err)
	}
}

func root(t *testing.T, s *Store) fsys.Root {
	t.Helper()
	r, err := fsys.OS.OpenRoot(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// A file that somebody has put where a model's is to be is left alone.
func TestStrangersAreLeftAlone(t *testing.T) {
	t.Parallel()
	site := newSite(t, whole(data, `"one"`))
	file := filepath.Join(t.TempDir(), "m.pth")
	if err := os.WriteFile(file, data, 0o666); err != nil {
		t.Fatal(err)
	}
	for name, bring := range map[string]func(*Store) error{
		"add":   func(s *Store) error { _, _, err := s.Add(t.Context(), file, "m"); return err },
		"fetch": func(s *Store) error { _, _, err := s.Fetch(t.Context(), "m", site.options()); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := storeOf(t, Entry{URLs: []string{site.URL + "/m.pth"}})
			path := s.path("m", "m.pth")
			put := func(text string) {
				t.Helper()
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(text), 0o666)); err != nil {
					t.Fatal(err)
				}
			}
			put("my own")
			wantError(t, bring(s), path, "no record", "move "+path+" elsewhere")
			if r, err := s.readRecords(); placed(t, s) != "my own" || err != nil || len(r.Models) > 0 {
				t.Errorf("in place is %.20q, recorded %v, %v", placed(t, s), r.Models, err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := bring(s); err != nil || placed(t, s) != string(data) {
				t.Error(err)
			}
			// One that has become another since it was recorded is the store's, and mended.
			put("damage")
			if err := bring(s); err != nil || placed(t, s) != string(data) {
				t.Error(err)
			}
			// So is one of the same bytes, as when models.lock was lost.
			if err := os.Remove(filepath.Join(s.dir, recordsName)); err != nil {
				t.Fatal(err)
			}
			if err := bring(s); err != nil || placed(t, s) != string(data) {
				t.Error(err)
			}
		})
	}
}

// models.lock may come from elsewhere: names in it lead nowhere else.
func TestRecordsAreChecked(t *testing.T) {
	hash := sumOf(data)
	for name, text := range map[string]string{
		"no JSON":           `{`,
		"a later version":   `{"version": 2, "models": {}}`,
		"a file elsewhere":  `{"version": 1, "models": {"m": {"files": [{"name": "../x", "sha256": "` + hash + `"}]}}}`,
		"a model elsewhere": `{"version": 1, "models": {"../m": {"files": [{"name": "x", "sha256": "` + hash + `"}]}}}`,
		"no files":          `{"version": 1, "models": {"m": {}}}`,
		"no hash":           `{"version": 1, "models": {"m": {"files": [{"name": "x"}]}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := storeOf(t, Entry{Bring: "x"})
			if err := errors.Join(os.MkdirAll(s.dir, 0o777), os.WriteFile(filepath.Join(s.dir, recordsName), []byte(text), 0o666)); err != nil {
				t.Fatal(err)
			}
			_, err := s.List()
			wantError(t, err, recordsName)
		})
	}
}

// Many that add at once lose no record.
func TestRecordsOfManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.pth")
	if err := os.WriteFile(file, data, 0o666); err != nil {
		t.Fatal(err)
	}
	s := &Store{dir: filepath.Join(dir, "models"), fs: fsys.OS}
	errs := make(chan error)
	for i := range 8 {
		go func() {
			_, _, err := s.Add(t.Context(), file, fmt.Sprint("m", i))
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(s.dir, recordsName))
	if err != nil {
		t.Fatal(err)
	}
	var r records
	if err := json.Unmarshal(text, &r); err != nil || len(r.Models) != 8 {
		t.Errorf("%d records, %v", len(r.Models), err)
	}
}
