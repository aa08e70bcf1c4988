package onnx

import "slices"

// block is how many channels lie together where the runtime's kernels for the CPU are
// the fastest ones; others are added until they are full.
const block = 16

// same are operators whose output is their input under another shape: the runtime
// copies nothing.
var same = []string{"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout"}

// peak is how many bytes the tensors that hang on the picture have together at most,
// when a tensor goes after the last node that needs it: in the order of the file, or in
// the one that ONNX Runtime takes, if that needs more.
func (net *network) peak(known []*flow) int64 {
	inFile := make([]int, len(net.nodes))
	for i := range inFile {
		inFile[i] = i
	}
	return max(net.peakIn(inFile, known), net.peakIn(net.runtimeOrder(), known))
}

// runtimeOrder is the order of the nodes in which each comes after those that it needs,
// and of these the ones that are later in the file with all that they need before the
// others.
func (net *network) runtimeOrder() []int {
	maker := map[int]int{}
	for i, n := range net.nodes {
		for _, id := range n.out {
			maker[id] = i
		}
	}
	order := make([]int, 0, len(net.nodes))
	seen := make([]bool, len(net.nodes))
	var visit func(i int)
	visit = func(i int) {
		if seen[i] {
			return
		}
		seen[i] = true
		var before []int
		for _, id := range net.nodes[i].in {
			if m, ok := maker[id]; ok && id != 0 {
				before = append(before, m)
			}
		}
		slices.Sort(before)
		for _, m := range slices.Backward(before) {
			visit(m)
		}
		order = append(order, i)
	}
	for _, p := range net.Outputs {
		if i, ok := maker[net.ids[p.Name]]; ok {
			visit(i)
		}
	}
	return order
}

func (net *network) peakIn(order []int, known []*flow) int64 {
	// A tensor under another shape is the tensor.
	owner := make([]int, len(known))
	for i := range owner {
		owner[i] = i
	}
	last := make([]int, len(known)) // the node that needs it last; beyond all: an output
	for i, at := range order {
		n := &net.nodes[at]
		if slices.Contains(same, n.op) && len(n.in) > 0 && len(n.out) > 0 {
			owner[n.out[0]] = owner[n.in[0]]
		}
		for _, id := range n.in {
			last[owner[id]] = i
		}
	}
	for _, p := range net.Outputs {
		if id, ok := net.ids[p.Name]; ok {
			last[owner[id]] = len(net.nodes)
		}
	}
	blocked := make([]bool, len(known))
	for _, n := range net.nodes {
		if n.op == "Conv" && len(n.out) > 0 && known[n.out[0]] != nil && len(known[n.out[0]].dims) == 4 {
			blocked[n.out[0]] = known[n.out[0]].dims[1] > 0
		}
	}
	bytes := func(id int) int64 {
		f := known[id]
		if f == nil || f.seen == nil {
			return 0
		}
		n, _ := count(f.dims)
		size := (int64(n)*int64(f.elem.Bits()) + 7) / 8
		if blocked[id] {
			size = size / int64(f.dims[1]) * int64((f.dims[1]+block-1)/block*block)
		}
		return size
	}
	var now, most int64
	held := make([]int64, len(known))
	take := func(id int) {
		if owner[id] == id && held[id] == 0 {
			held[id] = bytes(id)
			now += held[id]
		}
	}
	for _, p := range net.Inputs {
		if id, ok := net.ids[p.Name]; ok {
			take(id)
		}
	}
	most = now
	for i, at := range order {
		n := &net.nodes[at]
		for k, id := range n.out {
			if k == 0 || last[id] > 0 {
				take(id)
			}
		}
		reused := int64(0)
		for _, id := range n.in {
			if o := owner[id]; inPlace(n.op) && last[o] == i && held[o] == bytes(n.out[0]) {
				reused = held[o]
			}
		}
		most = max(most, now-reused)
		for _, id := range slices.Concat(n.in, n.out) {
			if o := owner[id]; last[o] <= i {
				now -= held[o]
				held[o] = 0
			}
		}
	}
	return most
}

// inPlace tells whether the runtime may write an operator's output where its input
// was.
func inPlace(op string) bool {
	_, unary := unaries[op]
	_, binary := binaries[op]
	return unary || binary || slices.Contains([]string{"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "Elu", "Softmax", "BatchNormalization"}, op)
}
