package ort

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// ErrOutOfMemory is what an [OutOfMemoryError] is.
var ErrOutOfMemory = errors.New("out of memory")

// ErrNoProvider is what a [NoProviderError] is.
var ErrNoProvider = errors.New("the ONNX Runtime library lacks the provider")

// ErrClosed is returned for a session that was closed.
var ErrClosed = errors.New("the session is closed")

// OutOfMemoryError is a run, or the opening of a session, for which there was not
// enough memory. The session can still run smaller batches.
type OutOfMemoryError struct {
	// Requested and Available are the bytes that the runtime tells of the one
	// allocation that failed; 0 when it tells none.
	Requested, Available int64
	// Text is what the runtime says.
	Text string
}

func (e *OutOfMemoryError) Error() string { return "out of memory: " + e.Text }

// Is makes errors.Is(e, ErrOutOfMemory) true.
func (e *OutOfMemoryError) Is(target error) bool { return target == ErrOutOfMemory }

// NoProviderError is a session for a provider that the library does not have, or
// that it could not start.
type NoProviderError struct {
	Provider Provider
	Have     []string // as the library names them
	Path     string   // of the library
	Err      error    // why it could not be started; nil when it is not there
}

func (e *NoProviderError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s cannot start its %v (%v): install what it names, or take the CPU", e.Path, e.Provider, e.Err)
	}
	return fmt.Sprintf("%s has no %v, only %s: name a library that has it in %s",
		e.Path, e.Provider, strings.Join(e.Have, ", "), LibraryVariable)
}

// Unwrap gives Err.
func (e *NoProviderError) Unwrap() error { return e.Err }

// Is makes errors.Is(e, ErrNoProvider) true.
func (e *NoProviderError) Is(target error) bool { return target == ErrNoProvider }

// Out of memory has no code of its own: it is code 6 in some versions and code 1
// in others, which all kinds of failures have.
var outOfMemory = regexp.MustCompile(`(?i)failed to allocate memory for requested buffer of size` +
	`|available memory of \d+ is smaller than requested bytes of` +
	`|std::bad_alloc` +
	`|CUDA failure 2\b|CUDA error cudaErrorMemoryAllocation` +
	`|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED` +
	`|cudaMallocFromPoolAsync failed`)

var (
	requestedBytes = regexp.MustCompile(`(?i)requested (?:buffer of size|bytes of) (\d+)`)
	availableBytes = regexp.MustCompile(`(?i)available memory of (\d+) is smaller`)
)

// failure makes an error of what the runtime says, an [OutOfMemoryError] where
// the text means that.
func failure(text string) error {
	text = strings.TrimSpace(text)
	if !outOfMemory.MatchString(text) {
		return errors.New(text)
	}
	return &OutOfMemoryError{Text: text, Requested: number(requestedBytes, text), Available: number(availableBytes, text)}
}

func number(pattern *regexp.Regexp, text string) int64 {
	m := pattern.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0 // beyond an int64: not told
	}
	return n
}
