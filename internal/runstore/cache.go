package runstore

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	cacheSmall = 8              // more small segments than this are merged at Open
	smallShare = 16             // small is less than this part of the limit
	staleAfter = 24 * time.Hour // a temporary file this old is nobody's
)

// A cache is a folder of sealed segments that many runs share. Files appear in
// it whole, by link or rename, are never changed, and may vanish at any time:
// who has one open keeps it. It never fails a run.
type cache struct {
	dir      string
	limit    int64
	fsys     FS
	logger   *slog.Logger
	segments []*segment
	readOnly bool
}

// open maps the segments of the cache but those that a run has as its own.
func (c *cache) open(own []*segment) {
	mine := map[string]bool{}
	for _, s := range own {
		mine[filepath.Base(s.path)] = true
	}
	var small []*segment
	for _, info := range c.list() {
		if mine[info.Name()] {
			continue
		}
		s, err := openSegment(c.fsys, filepath.Join(c.dir, info.Name()))
		if gone(err) {
			continue
		}
		if err != nil {
			c.logger.Warn("ignoring cached attributes", "error", err)
			continue
		}
		c.segments = append(c.segments, s)
		if info.Size() < c.limit/smallShare {
			small = append(small, s)
		}
	}
	if len(small) > cacheSmall {
		if err := c.merge(small); err != nil {
			c.logger.Warn("cached attributes stay in many files", "error", err)
		}
	}
}

// list returns the segments, the least recently used first.
func (c *cache) list() (infos []fs.FileInfo) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		c.logger.Warn("reading the cache of attributes", "error", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // it has vanished
		}
		if strings.HasSuffix(e.Name(), ".seg") && !strings.HasPrefix(e.Name(), ".tmp-") {
			infos = append(infos, info)
		} else if strings.HasPrefix(e.Name(), ".tmp-") && time.Since(info.ModTime()) > staleAfter {
			_ = c.fsys.Remove(filepath.Join(c.dir, e.Name()))
		}
	}
	slices.SortFunc(infos, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), strings.Compare(a.Name(), b.Name()))
	})
	return infos
}

func (c *cache) merge(small []*segment) error {
	path := filepath.Join(c.dir, "merged-"+rand.Text()+".seg")
	if err := merge(c.fsys, small, path); err != nil {
		return err
	}
	merged, err := openSegment(c.fsys, path)
	if err != nil {
		return err
	}
	for _, s := range small {
		s.close()
		_ = c.fsys.Remove(s.path)
	}
	c.segments = slices.DeleteFunc(c.segments, func(s *segment) bool { return slices.Contains(small, s) })
	c.segments = append(c.segments, merged)
	return nil
}

func (c *cache) get(k Key) ([]byte, bool) {
	for _, s := range slices.Backward(c.segments) {
		v, ok := s.trust(k, c.logger)
		if !ok {
			continue
		}
		if !c.readOnly && !s.marked.Swap(true) {
			now := time.Now()
			_ = os.Chtimes(s.path, now, now) // that another process may have evicted it is no matter
		}
		return v, true
	}
	return nil, false
}

// publish offers a sealed segment to other runs.
func (c *cache) publish(s *segment) {
	if int64(len(s.data)) > c.limit {
		return
	}
	path := filepath.Join(c.dir, filepath.Base(s.path))
	err := c.fsys.Link(s.path, path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = c.copy(s.path, path) // another file system, or one without links
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		c.logger.Warn("attributes were not added to the cache", "error", err)
	}
}

func (c *cache) copy(from, to string) (err error) {
	src, err := c.fsys.OpenFile(from, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	tmp := filepath.Join(c.dir, ".tmp-"+rand.Text())
	dst, err := c.fsys.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err == nil {
		err = dst.Sync()
	}
	if cerr := dst.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = c.fsys.Rename(tmp, to)
	}
	if err != nil {
		_ = c.fsys.Remove(tmp)
		return fmt.Errorf("copying to the cache: %w", err)
	}
	return nil
}

// close unmaps the segments and removes the least recently used ones beyond the
// limit.
func (c *cache) close() {
	for _, s := range c.segments {
		s.close()
	}
	if c.readOnly {
		return
	}
	infos := c.list()
	total := int64(0)
	for _, info := range infos {
		total += info.Size()
	}
	for _, info := range infos {
		if total <= c.limit {
			return
		}
		err := c.fsys.Remove(filepath.Join(c.dir, info.Name()))
		if err != nil && !gone(err) {
			c.logger.Warn("removing from the cache of attributes", "error", err)
			continue
		}
		total -= info.Size()
	}
}

// gone tells whether another process has taken a file away.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
