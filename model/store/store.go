package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// Variable names the environment variable with the store's folder.
const Variable = "FORGEPIPE_MODELS"

// DefaultDir is the folder that Variable names, else forgepipe/models in the user's data
// folder ($XDG_DATA_HOME, or ~/.local/share).
func DefaultDir() (string, error) {
	if dir := os.Getenv(Variable); dir != "" {
		return dir, nil
	}
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "forgepipe", "models"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("looking for the store of models: %w: set %s to a folder", err, Variable)
	}
	return filepath.Join(home, ".local", "share", "forgepipe", "models"), nil
}

// Store is a folder of models: one folder for each, and models.lock. Several processes
// may use it at once. A folder that is missing is an empty store, and is made when the
// first model comes.
type Store struct {
	dir      string
	registry Registry
	fs       fsys.FS
}

// registryName is the file in a store that has what its user knows of models.
const registryName = "registry.json"

// Open makes a Store of a folder. What is known of models is Builtin, and the registry
// in the folder's registry.json, if there is one, which goes before.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir, registry: Builtin(), fs: fsys.OS}
	own, err := ReadRegistry(filepath.Join(dir, registryName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		s.registry = s.registry.With(own)
	}
	return s, nil
}

// Dir is its folder.
func (s *Store) Dir() string { return s.dir }

// Found is a model that a stage asked for.
type Found struct {
	Path   string // of its file
	Name   string // in the store; "" for one that was given by its path
	Preset string // how pictures are prepared for it, of model.Presets; "" is not known
	// Beside are the paths of more files that hold a part of its weights.
	Beside []string
}

// Find turns what a pipeline says of a model into a file: a name of the default store,
// or a path. A text that has a dot or a slash, or is the name of a file that is there,
// is a path, and whether it is there is not looked at. A model that is known and not in
// the store is an error that is ErrMissing.
func Find(nameOrPath string) (Found, error) {
	if IsPath(nameOrPath) {
		return Found{Path: nameOrPath}, nil
	}
	dir, err := DefaultDir()
	if err != nil {
		return Found{}, err
	}
	s, err := Open(dir)
	if err != nil {
		return Found{}, err
	}
	f, err := s.Find(nameOrPath)
	var unknown *UnknownError
	if errors.As(err, &unknown) {
		return f, fmt.Errorf("there is no file %s, and %w", nameOrPath, err)
	}
	return f, err
}

// IsPath tells whether Find takes a text for a path, and not for a name.
func IsPath(s string) bool {
	if !nameForm.MatchString(s) {
		return true
	}
	info, err := os.Stat(s)
	return err == nil && !info.IsDir()
}

// Find is the file of a model in the store, with those of the models that hold the rest of
// its weights; where one of these is missing, its own file comes with the error. A file is
// taken to be right while its size and time of modification are as models.lock has them,
// else its hash is compared.
func (s *Store) Find(name string) (Found, error) {
	found, err := s.find(name)
	if err != nil {
		return found, err
	}
	e, _ := s.registry.Find(name)
	for _, part := range e.Beside {
		beside, err := s.find(part)
		if err != nil {
			return found, fmt.Errorf("the model %s has its weights in two files, and %w", name, err)
		}
		found.Beside = append(found.Beside, beside.Path)
	}
	return found, nil
}

// find is Find for one file.
func (s *Store) find(name string) (Found, error) {
	r, err := s.readRecords()
	if err != nil {
		return Found{}, err
	}
	m, recorded := r.Models[name]
	e, known := s.registry.Find(name)
	switch {
	case recorded:
	case !known:
		return Found{}, s.unknown(name, r)
	case len(e.URLs) == 0:
		return Found{}, s.missing(name, "it has not been added")
	default:
		return Found{}, s.missing(name, "it has not been fetched")
	}
	for _, f := range m.Files {
		switch state := s.check(context.Background(), name, f, false); {
		case errors.Is(state, fs.ErrNotExist):
			return Found{}, s.missing(name, "its file "+f.Name+" is not there")
		case state != nil:
			return Found{}, s.missing(name, state.Error())
		}
	}
	return Found{Path: s.path(name, m.Files[0].Name), Name: name, Preset: e.Preset}, nil
}

// missing says what brings a model that is known.
func (s *Store) missing(name, why string) error {
	e, known := s.registry.Find(name)
	mend := "forgepipe models fetch " + name
	switch {
	case !known:
		mend = "forgepipe models add FILE --name " + name
	case len(e.URLs) == 0:
		mend = e.bring()
	}
	return &MissingError{Name: name, Why: why, Mend: mend}
}

func (s *Store) unknown(name string, r records) error {
	e := &UnknownError{Name: name}
	for _, n := range s.names(r) {
		if near(name, n) {
			e.Similar = append(e.Similar, n)
		}
	}
	return e
}

// near tells whether somebody who typed one name may have meant the other.
func near(typed, name string) bool {
	typed, name = strings.ToLower(typed), strings.ToLower(name)
	if len(typed) >= 3 && (strings.Contains(name, typed) || strings.Contains(typed, name)) {
		return true
	}
	// Levenshtein's distance, of at most two.
	row := make([]int, len(name)+1)
	for i := range row {
		row[i] = i
	}
	for i := range len(typed) {
		last := row[0]
		row[0] = i + 1
		for k := range len(name) {
			cost := last
			if typed[i] != name[k] {
				cost++
			}
			last, row[k+1] = row[k+1], min(cost, row[k]+1, row[k+1]+1)
		}
	}
	return row[len(name)] <= 2
}

// names are those of all models, of the registry and of the store, sorted.
func (s *Store) names(r records) (all []string) {
	for _, e := range s.registry {
		all = append(all, e.Name)
	}
	for n := range r.Models {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(strings.Compare(strings.ToLower(a), strings.ToLower(b)), strings.Compare(a, b))
	})
	return slices.Compact(all)
}

func (s *Store) path(name, file string) string { return filepath.Join(s.dir, name, file) }

// check compares a file with its record: by its hash, or if thorough is not set, by size
// and time where these are as recorded. nil: it is right.
func (s *Store) check(ctx context.Context, name string, f File, thorough bool) error {
	path := s.path(name, f.Name)
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file", path)
	case info.Size() != f.Size:
		return fmt.Errorf("%s has %d bytes instead of %d", path, info.Size(), f.Size)
	case !thorough && info.ModTime().Equal(f.Modified):
		return nil
	}
	got, _, err := hashFile(ctx, path)
	if err != nil {
		return err
	}
	if got != f.SHA256 {
		return fmt.Errorf("%s has sha256 %s instead of %s", path, got, f.SHA256)
	}
	return nil
}

func hashFile(ctx context.Context, path string) (hash string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = copyContext(ctx, h, f)
	if err != nil {
		return "", 0, fmt.Errorf("reading %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// Model is a line of a list: what the registry knows, and what the store has.
type Model struct {
	Entry           // of a model that no registry knows, what its file tells
	Record  *Record // nil: it was never in the store
	Path    string  // of its file; "": it is not there
	Partial int64   // bytes of a file that has not been fetched to its end
}

// List tells of all models, of the registry and of the store, sorted by name. Whether
// files are as recorded is for Verify to say.
func (s *Store) List() ([]Model, error) {
	r, err := s.readRecords()
	if err != nil {
		return nil, err
	}
	var all []Model
	for _, name := range s.names(r) {
		m := Model{}
		e, known := s.registry.Find(name)
		if known {
			m.Entry = e
		}
		if rec, ok := r.Models[name]; ok {
			m.Record = &rec
			if !known {
				m.Entry = Entry{Name: name, File: rec.Files[0].Name, Format: formatOf(rec.Files[0].Name), Licence: "unknown"}
			}
			if path := s.path(name, rec.Files[0].Name); exists(path) {
				m.Path = path
			}
		}
		if info, err := os.Stat(filepath.Join(s.dir, partialDir, name)); err == nil {
			m.Partial = info.Size()
		}
		all = append(all, m)
	}
	return all, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Fetchable tells whether Fetch can bring it.
func (m Model) Fetchable() bool { return len(m.URLs) > 0 }
