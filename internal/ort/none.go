//go:build !linux || !cgo || noort

package ort

import (
	"context"
	"errors"
)

var errNotBuilt = errors.New("this forgepipe was built without ONNX Runtime and runs no models: build it on linux with a C compiler, CGO_ENABLED=1 and without the tag noort (make build says when there is no compiler)")

// Load returns an error that says how to build the runtime in.
func Load(string) (*Library, error) { return nil, errNotBuilt }

// Session is a model that is ready to run. In this build there is none.
type Session struct{}

// Open returns the error of [Load].
func (l *Library) Open(context.Context, string, SessionOptions) (*Session, error) {
	return nil, errNotBuilt
}

// OpenBytes returns the error of [Load].
func (l *Library) OpenBytes(context.Context, []byte, SessionOptions) (*Session, error) {
	return nil, errNotBuilt
}

// Inputs returns nothing.
func (s *Session) Inputs() []Port { return nil }

// Outputs returns nothing.
func (s *Session) Outputs() []Port { return nil }

// Run returns the error of [Load].
func (s *Session) Run(context.Context, []*Tensor, RunOptions) ([]*Tensor, error) {
	return nil, errNotBuilt
}

// Stats returns the error of [Load].
func (s *Session) Stats() (Stats, error) { return Stats{}, errNotBuilt }

// Fallbacks returns nothing.
func (s *Session) Fallbacks() []string { return nil }

// Close does nothing.
func (s *Session) Close() error { return nil }

// Probe returns the error of [Load].
func (*Library) Probe(Provider) error { return errNotBuilt }
