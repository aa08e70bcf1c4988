package onnx

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Operators whose places are computed: their shapes are followed, and what of the
// picture is in them is not.

func scatter(c *call) ([]*flow, error) { return c.out(c.in[0].dims, c.lost()), nil }

func gatherElements(c *call) ([]*flow, error) { return c.out(c.in[1].dims, c.lost()), nil }

func gatherND(c *call) ([]*flow, error) {
	x, index := c.in[0], c.in[1]
	batch := c.int("batch_dims", 0)
	n := len(index.dims)
	if n == 0 || batch < 0 || batch >= n || batch+index.dims[n-1] > len(x.dims) {
		return nil, errNoMatch
	}
	return c.out(slices.Concat(index.dims[:n-1], x.dims[batch+index.dims[n-1]:]), c.lost()), nil
}

func topK(c *call) ([]*flow, error) {
	x := c.in[0]
	at, err := axis(x.dims, c.int("axis", -1))
	if err != nil {
		return nil, err
	}
	k := []int{c.int("k", 0)}
	if c.arg(1) != nil {
		if k, err = c.dims(1); err != nil {
			return nil, err
		}
	}
	if len(k) != 1 || k[0] < 0 || k[0] > x.dims[at] {
		return nil, fmt.Errorf("the largest %v of %d are not possible", k, x.dims[at])
	}
	dims := slices.Clone(x.dims)
	dims[at] = k[0]
	made := c.mixing(x, dims, at, at+1)
	if t := made[0].seen; t != nil && t.lost == "" {
		t = t.clone()
		t.axes[at] = plain(k[0])
		made[0].seen = t
	}
	return append(made, &flow{elem: Int64, dims: dims, seen: made[0].seen}), nil
}

func oneHot(c *call) ([]*flow, error) {
	x, depth := c.in[0], c.in[1]
	if len(depth.vals) != 1 {
		return nil, errors.New("how many there are is computed in a way that is not followed")
	}
	n := len(x.dims) + 1
	at := c.int("axis", -1)
	if at < 0 {
		at += n
	}
	if at < 0 || at >= n {
		return nil, fmt.Errorf("there is no axis %d of %d dimensions", at, n)
	}
	made := c.out(slices.Insert(slices.Clone(x.dims), at, whole(depth.vals)[0]), c.lost())
	made[0].elem = c.in[2].elem
	return made, nil
}

func einsum(c *call) ([]*flow, error) {
	in, out, told := strings.Cut(strings.ReplaceAll(c.text("equation", ""), " ", ""), "->")
	terms := strings.Split(in, ",")
	if !told || len(terms) != len(c.in) || strings.Contains(in, ".") {
		return nil, errors.New("its equation is of a kind that is not followed")
	}
	sizes := map[byte]int{}
	for i, term := range terms {
		x := c.in[i]
		if x == nil || len(term) != len(x.dims) {
			return nil, errNoMatch
		}
		for k, d := range x.dims {
			if have, ok := sizes[term[k]]; ok && have != d && have != 1 && d != 1 {
				return nil, errNoMatch
			}
			sizes[term[k]] = max(sizes[term[k]], d)
		}
	}
	dims := make([]int, len(out))
	for i := range dims {
		d, ok := sizes[out[i]]
		if !ok {
			return nil, errors.New("its equation is of a kind that is not followed")
		}
		dims[i] = d
	}
	return c.out(dims, c.lost()), nil
}
