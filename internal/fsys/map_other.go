//go:build !linux

package fsys

import (
	"errors"
	"os"
)

// CanMap tells whether Map works on this system.
const CanMap = false

// A Mapping is a file's bytes in memory.
type Mapping struct{}

// Bytes are the file's, to be read and changed.
func (m *Mapping) Bytes() []byte { return nil }

// Leave takes the pages out of the process's memory.
func (m *Mapping) Leave() error { return errors.ErrUnsupported }

// Blank lets go of the file and keeps its addresses.
func (m *Mapping) Blank() error { return errors.ErrUnsupported }

// Close gives the addresses back.
func (m *Mapping) Close() error { return errors.ErrUnsupported }

func mapFile(*os.File, int64) (*Mapping, error) { return nil, errors.ErrUnsupported }

func allocate(*os.File, int64) error { return errors.ErrUnsupported }

func freeBytes(*os.File) (int64, error) { return 0, errors.ErrUnsupported }
