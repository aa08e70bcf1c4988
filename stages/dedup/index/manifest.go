package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
)

const (
	manifestName   = "index.json"
	manifestTemp   = "index.json.tmp"
	manifestFormat = "forgepipe dedup index"
	plainVersion   = 2 // without large columns
	largeVersion   = 3
	maxManifest    = 2 << 20 // bytes: roots, and five times what the other limits come to
)

// A manifest is index.json without its checksum.
type manifest struct {
	Format   string        `json:"format"`
	Version  int           `json:"version"`
	Created  time.Time     `json:"created"`
	Next     int64         `json:"next"`
	Entries  int64         `json:"entries"`
	Columns  []Column      `json:"columns"`
	Roots    []string      `json:"roots"` // percent-encoded, so that any path is valid text
	Segments []segmentInfo `json:"segments"`

	roots []string // Roots as they are
}

type segmentInfo struct {
	Name    string    `json:"name"`
	Entries int64     `json:"entries"`
	Bytes   int64     `json:"bytes"`
	Large   []int64   `json:"large,omitempty"` // bytes of the file of each large column
	SHA256  string    `json:"sha256"`          // of its headers
	Added   time.Time `json:"added"`
}

// fileForm is that of the names of all files of segments.
var fileForm = regexp.MustCompile(`^segment-[0-9]{8,12}(\.fpi|-[0-9]{1,2}\.fpl)$`)

func segmentName(n int64) string { return fmt.Sprintf("segment-%08d.fpi", n) }

// largeName is the name of the file of a segment with the fingerprints of one column.
func largeName(segment string, column int) string {
	return fmt.Sprintf("%s-%d.fpl", strings.TrimSuffix(segment, ".fpi"), column+1)
}

// fileNames are the names of the files of a segment.
func fileNames(segment string, columns []Column) []string {
	all := []string{segment}
	for i, c := range columns {
		if c.large() {
			all = append(all, largeName(segment, i))
		}
	}
	return all
}

// size is that of all files of the segment.
func (s *segmentInfo) size() int64 {
	n := s.Bytes
	for _, large := range s.Large {
		n += large
	}
	return n
}

// maxNumber keeps names within their form.
const maxNumber = 1e12 - 1

const (
	sumBefore = ",\n  \"sha256\": \""
	sumAfter  = "\"\n}\n"
	sumTail   = len(sumBefore) + 2*sha256.Size + len(sumAfter)
)

// encode gives the bytes of the file.
func (m *manifest) encode() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	return seal(bytes.TrimSuffix(data, []byte("\n}"))), nil
}

// seal ends the file with the checksum of what comes before.
func seal(body []byte) []byte {
	return fmt.Appendf(body, "%s%x%s", sumBefore, sha256.Sum256(body), sumAfter)
}

// parseManifest reads the bytes of the file. Its errors say what is wrong.
func parseManifest(data []byte) (*manifest, error) {
	// Every version has these, and ends in its checksum.
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, badf("it is not JSON (%v)", err)
	}
	if head.Format != manifestFormat {
		return nil, badf("its format is %.40q and not %q", head.Format, manifestFormat)
	}
	at := len(data) - sumTail
	if at < 0 || !bytes.HasPrefix(data[at:], []byte(sumBefore)) || !bytes.HasSuffix(data, []byte(sumAfter)) {
		return nil, badf("it does not end in its checksum")
	}
	sum := sha256.Sum256(data[:at])
	if hex.EncodeToString(sum[:]) != string(data[at+len(sumBefore):len(data)-len(sumAfter)]) {
		return nil, badf("its checksum is wrong")
	}
	// A version is told before anything else that may be different in it.
	switch {
	case head.Version == 1:
		return nil, errors.New("it was made by an older forgepipe, and does not say in which folder its pictures are: make the index anew from them, in an empty folder")
	case head.Version > largeVersion:
		return nil, fmt.Errorf("the version of %s is %d, and this forgepipe reads up to %d: use the newer one that made it", manifestName, head.Version, largeVersion)
	}
	d := json.NewDecoder(io.MultiReader(bytes.NewReader(data[:at]), bytes.NewReader([]byte("}"))))
	d.DisallowUnknownFields()
	m := &manifest{}
	if err := d.Decode(m); err != nil {
		return nil, badf("reading it: %v", err)
	}
	if m.Version == plainVersion && larges(m.Columns) > 0 {
		return nil, errors.New("it was made by an older forgepipe, which kept large fingerprints among the others: make the index anew from its pictures, in an empty folder")
	}
	return m, m.check()
}

// check refuses what no add writes.
func (m *manifest) check() error {
	if err := checkColumns(m.Columns); err != nil {
		return err
	}
	if m.Version != versionOf(m.Columns) {
		return badf("its version is %d, and of these columns %d", m.Version, versionOf(m.Columns))
	}
	if err := m.checkRoots(); err != nil {
		return err
	}
	if len(m.Segments) > maxSegments {
		return badf("it has %d segments, and %d is the most", len(m.Segments), maxSegments)
	}
	if m.Next < 1 || m.Next > maxNumber {
		return badf("the number of the next segment is %d", m.Next)
	}
	seen := map[string]bool{}
	entries := int64(0)
	for _, s := range m.Segments {
		var number int64
		if fileForm.MatchString(s.Name) {
			_, _ = fmt.Sscanf(s.Name, "segment-%d.fpi", &number)
		}
		switch {
		case number < 1 || number >= m.Next || s.Name != segmentName(number):
			return badf("it has a segment %.40q", s.Name)
		case seen[s.Name]:
			return badf("it has the segment %s twice", s.Name)
		case s.Bytes < 1 || s.Bytes > math.MaxInt64/maxSegments/(maxColumns+1):
			return badf("the segment %s has %d bytes", s.Name, s.Bytes)
		case s.Entries < 1 || s.Entries > s.Bytes/keyBytes:
			return badf("the segment %s has %d entries in %d bytes", s.Name, s.Entries, s.Bytes)
		case len(s.SHA256) != 2*sha256.Size:
			return badf("the segment %s has the checksum %.80q", s.Name, s.SHA256)
		}
		if err := s.checkLarge(m.Columns); err != nil {
			return err
		}
		seen[s.Name] = true
		entries += s.Entries
	}
	if entries != m.Entries {
		return badf("it has %d entries, and its segments %d", m.Entries, entries)
	}
	return nil
}

// checkLarge refuses files of large columns that cannot be those of so many entries.
func (s *segmentInfo) checkLarge(columns []Column) error {
	if want := larges(columns); len(s.Large) != want {
		return badf("the segment %s has %d files of large columns, and not %d", s.Name, len(s.Large), want)
	}
	n := 0
	for i, c := range columns {
		if !c.large() {
			continue
		}
		bytes, size := s.Large[n], int64(c.Size)
		n++
		if bytes < 0 || bytes%size != 0 || bytes/size > s.Entries || bytes > math.MaxInt64/maxSegments/(maxColumns+1) {
			return badf("%s has %d bytes for %d entries", largeName(s.Name, i), bytes, s.Entries)
		}
	}
	return nil
}

func (m *manifest) checkRoots() error {
	seen := map[string]bool{}
	total := 0
	for _, escaped := range m.Roots {
		root, err := pipeline.UnescapeID(escaped)
		switch {
		case err != nil || pipeline.EscapeID(root) != escaped || !isRoot(root):
			return badf("it has the folder %.80q", escaped)
		case seen[root]:
			return badf("it has the folder %.80q twice", escaped)
		}
		seen[root] = true
		total += rootBytes(escaped)
		m.roots = append(m.roots, root)
	}
	if total > maxRoots {
		return badf("its folders have %d bytes, and %d is the most", total, maxRoots)
	}
	return nil
}

// isRoot is true for an absolute path that stands there in its shortest form.
func isRoot(path string) bool {
	return len(path) <= maxRoot && filepath.IsAbs(path) && filepath.Clean(path) == path && strings.IndexByte(path, 0) < 0
}

// rootBytes is what a root takes in index.json.
func rootBytes(escaped string) int {
	text, _ := json.Marshal(escaped) // of a string there is no error
	return len(text) + len("    ,\n")
}

// readManifest reads the bytes of the file, up to what is reasonable.
func readManifest(root fsys.Root) ([]byte, error) {
	f, size, err := openRegular(root, manifestName)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxManifest {
		return nil, badf("it has %d bytes, and %d is the most", size, maxManifest)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", manifestName, err)
	}
	return data, nil
}

// openRegular opens a file. Anything else could keep who opens it waiting for ever.
func openRegular(root fsys.Root, name string) (fsys.File, int64, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, badf("it is %s and not a file", fsys.KindOf(info.Mode()))
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	if info, err = f.Stat(); err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// write replaces index.json, and what it names is on disk by then. replaced is true as soon as
// the old one may be gone.
func (m *manifest) write(root fsys.Root) (replaced bool, err error) {
	data, err := m.encode()
	if err != nil {
		return false, err
	}
	f, err := root.Create(manifestTemp)
	if err != nil {
		return false, err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		// The names of the segments first, and the one of this file.
		err = syncDir(root)
	}
	if err != nil {
		return false, err
	}
	if err := root.Rename(manifestTemp, manifestName); err != nil {
		return true, err
	}
	return true, syncDir(root)
}

// syncDir puts the names in a folder on disk.
func syncDir(root fsys.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("opening the folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
