//go:build linux && cgo && !noort

package ort

/*
#include "shim.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	onnx "github.com/yalue/onnxruntime_go"
)

// Run runs the model on in, which is in the order of Inputs and is not to be
// changed meanwhile, and gives the outputs in the order of Outputs. It waits
// while as many runs are in flight as there may be. When ctx ends, the run ends after the operator that is being
// computed, and the error is that of ctx. For out of memory the error is
// [ErrOutOfMemory].
func (s *Session) Run(ctx context.Context, in []*Tensor, o RunOptions) (out []*Tensor, err error) {
	if len(in) != len(s.in) {
		return nil, fmt.Errorf("running the model: it takes %d tensors, not %d", len(s.in), len(in))
	}
	for i, t := range in {
		if err := t.check(s.in[i]); err != nil {
			return nil, fmt.Errorf("running the model: %w", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("running the model: %w", context.Cause(ctx))
	}
	ran := make(chan struct{})
	work := func() {
		defer close(ran)
		out, err = s.run(ctx, in, o)
	}
	select {
	case s.work <- work:
	case <-s.quit:
		return nil, fmt.Errorf("running the model: %w", ErrClosed)
	case <-ctx.Done():
		return nil, fmt.Errorf("running the model: %w", context.Cause(ctx))
	}
	<-ran // also when ctx ends: the tensors are in use until then
	if err != nil {
		return nil, fmt.Errorf("running the model: %w", err)
	}
	return out, nil
}

func (s *Session) run(ctx context.Context, in []*Tensor, o RunOptions) ([]*Tensor, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	inputs := make([]*C.OrtValue, len(in))
	defer release(inputs)
	for i, t := range in {
		var err error
		if inputs[i], err = input(t, &pin); err != nil {
			return nil, fmt.Errorf("passing input %q: %w", s.in[i].Name, err)
		}
	}
	shrink := func() {
		if err := s.shrink(inputs); err != nil && s.options.Log != nil {
			s.options.Log.Warn("the session's arena was not shrunk", "error", err)
		}
	}
	if o.ShrinkFirst || o.ShrinkOnly {
		shrink()
	}
	if o.ShrinkOnly {
		return nil, nil
	}
	out, err := s.compute(ctx, inputs)
	if o.Shrink {
		shrink()
	}
	return out, err
}

func (s *Session) compute(ctx context.Context, inputs []*C.OrtValue) ([]*Tensor, error) {
	o, err := onnx.NewRunOptions()
	if err != nil {
		return nil, failure(err.Error())
	}
	defer o.Destroy() //nolint:errcheck // it fails only for what is not there
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		o.Terminate() //nolint:errcheck // it fails only for options that are not there
	})
	outputs := make([]*C.OrtValue, len(s.out))
	defer release(outputs)
	err = s.call(o, inputs, outputs)
	if !stop() {
		<-stopped // before o is gone
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	out := make([]*Tensor, len(outputs))
	for i, v := range outputs {
		if out[i], err = output(v); err != nil {
			return nil, fmt.Errorf("reading output %q: %w", s.out[i].Name, err)
		}
	}
	return out, nil
}

// shrink gives the arenas' free regions back. The runtime does that only at the
// end of a run, and before its outputs are released, each of which holds the
// region that it is in. So this is a run of its own, after that, which ends
// before its first operator. Regions that runs beside it use are not free, and
// the arena's lock keeps it from those that they are about to take.
func (s *Session) shrink(inputs []*C.OrtValue) error {
	o, err := onnx.NewRunOptions()
	if err != nil {
		return err
	}
	defer o.Destroy() //nolint:errcheck // it fails only for what is not there
	key, value := C.CString("memory.enable_memory_arena_shrinkage"), C.CString(s.options.arenas())
	defer C.free(unsafe.Pointer(key))
	defer C.free(unsafe.Pointer(value))
	if err := errors.Join(cError(C.fp_run_config((*C.OrtRunOptions)(pointerIn(o, "o")), key, value)), o.Terminate()); err != nil {
		return err
	}
	outputs := make([]*C.OrtValue, len(s.out))
	defer release(outputs)
	if err := s.call(o, inputs, outputs); err != nil && !strings.Contains(err.Error(), "terminate flag") {
		return err
	}
	return nil
}

func (s *Session) call(o *onnx.RunOptions, inputs, outputs []*C.OrtValue) error {
	return cError(C.fp_run(s.c, (*C.OrtRunOptions)(pointerIn(o, "o")),
		unsafe.SliceData(s.inNames), unsafe.SliceData(inputs), C.size_t(len(inputs)),
		unsafe.SliceData(s.outNames), unsafe.SliceData(outputs), C.size_t(len(outputs))))
}

func release(values []*C.OrtValue) {
	for _, v := range values {
		C.fp_release_value(v)
	}
}

// nothing is where the data of a tensor without elements lies: the runtime wants
// an address.
var nothing byte

// input makes a value of t's own memory, which it pins.
func input(t *Tensor, pin *runtime.Pinner) (*C.OrtValue, error) {
	data, dims := unsafe.SliceData(t.Data), unsafe.SliceData(t.Shape)
	if len(t.Data) == 0 {
		data = &nothing
	}
	pin.Pin(data)
	if len(t.Shape) > 0 {
		pin.Pin(dims)
	}
	c := &C.fp_tensor{
		data: unsafe.Pointer(data), bytes: C.size_t(len(t.Data)),
		dims: (*C.int64_t)(dims), rank: C.size_t(len(t.Shape)), _type: C.int(t.Type),
	}
	v := new(*C.OrtValue)
	err := cError(C.fp_input(c, v))
	return *v, err
}

// output copies a value of the runtime's.
func output(v *C.OrtValue) (*Tensor, error) {
	c := new(C.fp_tensor)
	if err := cError(C.fp_output(v, c)); err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(c.dims))
	shape := make([]int64, c.rank)
	for i, d := range unsafe.Slice(c.dims, c.rank) {
		shape[i] = int64(d)
	}
	n, ok := byteSize(ElementType(c._type), shape)
	if !ok || n != int64(c.bytes) {
		return nil, fmt.Errorf("the runtime gave %d bytes for %v of %v", c.bytes, shape, ElementType(c._type))
	}
	t := NewTensor(ElementType(c._type), shape...)
	copy(t.Data, unsafe.Slice((*byte)(c.data), c.bytes))
	return t, nil
}
