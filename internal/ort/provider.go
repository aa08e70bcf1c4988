//go:build linux && cgo && !noort

package ort

/*
#include "shim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime/cgo"

	onnx "github.com/yalue/onnxruntime_go"
)

// apply sets the options of a session that is going to be opened.
func (set settings) apply(so *onnx.SessionOptions, log cgo.Handle) error {
	level := onnx.LoggingLevel(onnx.LoggingLevelFatal)
	if log != 0 {
		level = onnx.LoggingLevelWarning
	}
	if err := errors.Join(
		cError(C.fp_log_to((*C.OrtSessionOptions)(pointerIn(so, "o")), C.uintptr_t(log))),
		so.SetLogSeverityLevel(level),
		so.SetGraphOptimizationLevel(onnx.GraphOptimizationLevelEnableAll),
		so.SetExecutionMode(onnx.ExecutionModeSequential),
		so.SetIntraOpNumThreads(set.threads),
		so.SetInterOpNumThreads(1),
		so.SetCpuMemArena(true),
		so.SetMemPattern(false), // with it, the second run of a shape doubles the arena (microsoft/onnxruntime issue 14477)
	); err != nil {
		return err
	}
	for key, value := range set.entries {
		if err := so.AddSessionConfigEntry(key, value); err != nil {
			return fmt.Errorf("%s=%s: %w", key, value, err)
		}
	}
	return nil
}

// Probe tells whether a provider that the library has can be started: its own
// libraries, such as CUDA's, may be missing. The error is a NoProviderError.
func (l *Library) Probe(p Provider) error {
	set, err := SessionOptions{Provider: p}.settings(l)
	if err != nil || set.cuda == nil {
		return err
	}
	so, err := onnx.NewSessionOptions()
	if err != nil {
		return err
	}
	defer so.Destroy() //nolint:errcheck // it fails only for what is not there
	if err := addCUDA(so, set.cuda); err != nil {
		return &NoProviderError{Provider: p, Have: l.Providers, Path: l.Path, Err: err}
	}
	return nil
}

// addCUDA has the runtime load its library for CUDA, and those that need it.
func addCUDA(so *onnx.SessionOptions, options map[string]string) error {
	cuda, err := onnx.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer cuda.Destroy() //nolint:errcheck // it fails only for what is not there
	if err := cuda.Update(options); err != nil {
		return err
	}
	return so.AppendExecutionProviderCUDA(cuda)
}
