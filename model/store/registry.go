package store

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// The formats that networks come in.
const (
	FormatONNX        = "onnx"
	FormatPyTorch     = "pth" // also .pt and .pkl
	FormatSafetensors = "safetensors"
)

// Entry is what a registry says of a network's file. What no source states is empty, or 0.
type Entry struct {
	Name         string `json:"name"`                   // letters, digits, "-" and "_"
	Task         string `json:"task,omitempty"`         // what it is for: "embed", "score", "upscale", ...
	Scale        int    `json:"scale,omitempty"`        // of a network that makes pictures larger
	Architecture string `json:"architecture,omitempty"` // "ESRGAN (RRDBNet)"
	Format       string `json:"format"`                 // one of the formats
	Preset       string `json:"preset,omitempty"`       // how pictures are prepared, of model.Presets
	File         string `json:"file"`                   // the name that it has where it comes from
	// Beside are the names of the models that hold the rest of its weights, such as the
	// backbone that layers belong to.
	Beside []string `json:"beside,omitempty"`
	// URLs are where it can be fetched, the first that works. None: Bring says how one
	// comes by it.
	URLs     []string `json:"urls,omitempty"`
	Size     int64    `json:"size,omitempty"`      // in bytes
	SHA256   string   `json:"sha256,omitempty"`    // in hexadecimal
	StatedBy string   `json:"stated_by,omitempty"` // who states Size and SHA256
	Licence  string   `json:"licence"`             // as its source states it, or "unknown"
	Page     string   `json:"page,omitempty"`      // where it is described
	Bring    string   `json:"bring,omitempty"`     // how to come by a file that nobody may fetch unasked
	Note     string   `json:"note,omitempty"`      // what else is to be known
}

// Registry is a list of networks.
type Registry []Entry

//go:embed registry.json
var builtin []byte

// Builtin is the registry that comes with the program.
var Builtin = sync.OnceValue(func() Registry {
	r, err := ParseRegistry(builtin)
	if err != nil {
		panic("BUG: the built-in registry: " + err.Error())
	}
	return r
})

// maxRegistry is what a registry's file may take, in bytes.
const maxRegistry = 4 << 20

// ReadRegistry reads a registry of one's own, a JSON file of the form of the built-in one.
func ReadRegistry(file string) (Registry, error) {
	data, err := readSmall(file, maxRegistry)
	var r Registry
	if err == nil {
		r, err = ParseRegistry(data)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the registry %s: %w", file, err)
	}
	return r, nil
}

// readSmall reads a file of at most so many bytes. A pipe is refused, for which one would
// wait for ever.
func readSmall(file string, limit int64) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return data, err
}

// ParseRegistry reads a registry: {"models": [entries]}. Unknown members, names that
// come twice, entries that could not be fetched and text after the end are errors.
func ParseRegistry(data []byte) (Registry, error) {
	var doc struct {
		Models Registry `json:"models"`
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("after byte %d, where it ends, there is more", dec.InputOffset())
	}
	seen := map[string]bool{}
	for _, e := range doc.Models {
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("model %q: %w", e.Name, err)
		}
		if seen[e.Name] {
			return nil, fmt.Errorf("model %q: it is there twice", e.Name)
		}
		seen[e.Name] = true
	}
	return doc.Models, nil
}

var (
	nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)
	fileForm = regexp.MustCompile(`^[\pL\pN_][^/\\\p{Cc}]*$`)
	hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// isFileName tells whether a file in the store may be called so. JSON keeps such a name as
// it is, and no system finds it too long.
func isFileName(name string) bool {
	return len(name) <= 200 && utf8.ValidString(name) && fileForm.MatchString(name)
}

func (e Entry) check() error {
	switch {
	case !nameForm.MatchString(e.Name):
		return errors.New("a name has letters, digits, - and _")
	case !isFileName(e.File):
		return fmt.Errorf("file %q is no name of a file", e.File)
	case !slices.Contains([]string{FormatONNX, FormatPyTorch, FormatSafetensors}, e.Format):
		return fmt.Errorf("format %q is none of onnx, pth and safetensors", e.Format)
	case e.SHA256 != "" && !hashForm.MatchString(e.SHA256):
		return fmt.Errorf("sha256 %q is not 64 digits 0-9a-f", e.SHA256)
	case e.Size < 0 || e.Scale < 0:
		return errors.New("size and scale are not negative")
	case len(e.URLs) == 0 && e.Bring == "":
		return errors.New("it has neither urls nor bring, which says how to come by the file")
	}
	for _, name := range e.Beside {
		if !nameForm.MatchString(name) || name == e.Name {
			return fmt.Errorf("beside %q is no other model", name)
		}
	}
	for _, u := range e.URLs {
		if _, err := checkURL(u); err != nil {
			return err
		}
	}
	return nil
}

// checkURL refuses what Fetch would.
func checkURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the address %q: %w", text, err)
	case u.Scheme != "https":
		return nil, fmt.Errorf("the address %q is not https", text)
	case u.Host == "" || u.User != nil:
		return nil, fmt.Errorf("the address %q has no host, or a user", text)
	}
	if why := hostFault(u.Hostname()); why != "" {
		return nil, fmt.Errorf("the address %q: %s", text, why)
	}
	return u, nil
}

// Find is the entry of that name.
func (r Registry) Find(name string) (Entry, bool) {
	i := slices.IndexFunc(r, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return Entry{}, false
	}
	return r[i], true
}

// With is the registry with more entries; those replace others of the same name.
func (r Registry) With(more Registry) Registry {
	out := slices.DeleteFunc(slices.Clone(r), func(e Entry) bool {
		_, replaced := more.Find(e.Name)
		return replaced
	})
	return append(out, more...)
}

// formatOf tells a format by the ending of a file's name; "" is none that is known.
func formatOf(file string) string {
	for format, endings := range map[string][]string{
		FormatONNX: {".onnx"}, FormatPyTorch: {".pth", ".pt", ".pkl"}, FormatSafetensors: {".safetensors"},
	} {
		for _, e := range endings {
			if strings.HasSuffix(strings.ToLower(file), e) {
				return format
			}
		}
	}
	return ""
}
