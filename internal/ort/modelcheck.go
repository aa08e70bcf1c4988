package ort

import (
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// maxModelSize is the largest message that protobuf's own reader takes.
	maxModelSize = 1<<31 - 1
	// maxModelFields is far beyond the fields at the top of a real model, of which
	// only its metadata and functions are many.
	maxModelFields = 1 << 16
	graphField     = 7 // ModelProto.graph
)

// checkModelFile refuses what cannot be a model without reading it whole: the
// runtime would read a file of any size into memory first.
func checkModelFile(path string) error {
	info, err := os.Stat(path) // before opening, which would wait at a FIFO
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file: name the .onnx file")
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return checkModel(f, info.Size())
}

// checkModel walks over the fields at the top of a model, which end where the
// model does.
func checkModel(r io.ReaderAt, size int64) error {
	if size == 0 {
		return errors.New("it is empty: export or fetch it again")
	}
	if size > maxModelSize {
		return fmt.Errorf("its %d bytes are more than the 2 GiB that an .onnx file can have: export it with its weights as external data", size)
	}
	var window [2 * 10]byte // a tag and a length, each at most ten bytes
	hasGraph := false
	at := int64(0)
	for fields := 0; at < size; fields++ {
		if fields == maxModelFields {
			return errors.New("it is no ONNX model: it has too many fields")
		}
		n, err := r.ReadAt(window[:min(int64(len(window)), size-at)], at)
		if n == 0 && err != nil {
			return fmt.Errorf("reading at byte %d: %w", at, err)
		}
		number, kind, tag := protowire.ConsumeTag(window[:n])
		if tag < 0 {
			return fmt.Errorf("it is no ONNX model, or is damaged at byte %d: export or fetch it again", at)
		}
		value := int64(0)
		if kind == protowire.BytesType {
			length, l := protowire.ConsumeVarint(window[tag:n])
			if l < 0 || length > uint64(size) {
				return fmt.Errorf("it is no ONNX model, or is cut off or damaged at byte %d: export or fetch it again", at)
			}
			value = int64(l) + int64(length)
			hasGraph = hasGraph || number == graphField
		} else {
			v := protowire.ConsumeFieldValue(number, kind, window[tag:n])
			if v < 0 || kind == protowire.StartGroupType {
				return fmt.Errorf("it is no ONNX model, or is damaged at byte %d: export or fetch it again", at)
			}
			value = int64(v)
		}
		at += int64(tag) + value
	}
	if at > size {
		return fmt.Errorf("it is cut off: %d bytes are missing; export or fetch it again", at-size)
	}
	if !hasGraph {
		return errors.New("it is no ONNX model: it has no graph")
	}
	return nil
}
