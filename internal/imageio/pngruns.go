package imageio

import (
	"encoding/binary"
	"hash"
	"hash/adler32"
	"io"
	"math/bits"
	"slices"
)

// runWriter compresses into the zlib format (RFC 1950, 1951) with nothing but
// Huffman codes and runs of one byte, which deflate writes as matches at distance
// 1. In a filtered photograph there is little else to find: looking for it, as
// klauspost's level 1 does, makes encoding a fifth slower and files 6 to 10 %
// smaller.
type runWriter struct {
	w     io.Writer
	err   error // the first of w
	adler hash.Hash32
	begun bool

	block []byte // what is not compressed yet, behind the byte before it
	runs  []run
	out   []byte // the compressed block
	n     int    // bytes in out
	acc   uint64 // bits that are no whole byte yet, the first lowest
	bits  uint
}

// A run is length repetitions of a byte behind so many literals.
type run struct{ literals, length uint32 }

const (
	runBlock = 64 << 10 // bytes that share a Huffman code
	minRun   = 4
	maxRun   = 258
	// With no code longer than this, four literals and what is left of the bits
	// before fit into 64.
	maxCode = 12

	endOfBlock = 256
	symbols    = 286
)

// Reset begins a new stream.
func (z *runWriter) Reset(w io.Writer) {
	if z.out == nil {
		z.block = make([]byte, 0, 1+runBlock)
		z.out = make([]byte, 2*runBlock+1024)
		z.adler = adler32.New()
	}
	z.adler.Reset()
	*z = runWriter{w: w, adler: z.adler, block: append(z.block[:0], 0), runs: z.runs, out: z.out}
	z.n = copy(z.out, "\x78\x01")
}

// Write keeps p for the current block, and compresses the blocks that are full.
func (z *runWriter) Write(p []byte) (int, error) {
	size := len(p)
	for len(p) > 0 && z.err == nil {
		if len(z.block) == cap(z.block) {
			z.compress(false)
		}
		n := min(len(p), cap(z.block)-len(z.block))
		z.block = append(z.block, p[:n]...)
		p = p[n:]
	}
	return size, z.err
}

// Close writes what is left.
func (z *runWriter) Close() error {
	z.compress(true)
	if z.err == nil {
		_, z.err = z.w.Write(z.adler.Sum(nil))
	}
	return z.err
}

func (z *runWriter) compress(last bool) {
	z.adler.Write(z.block[1:])
	counts := z.find()
	counts[endOfBlock]++
	lengths := codeLengths(counts[:])
	codes := canonical(lengths)

	final := uint64(0)
	if last {
		final = 1
	}
	z.put(final|2<<1, 3)  // a block with codes of its own
	z.put(symbols-257, 5) // for so many symbols
	z.put(0, 5)           // and one distance
	z.put(19-4, 4)        // all lengths of codes can occur:
	for i := range 19 {   // in the order of RFC 1951, 3.2.7
		z.put([2]uint64{0, 4}[min(i/3, 1)], 3) // 16, 17 and 18, which repeat, do not; the others are four bits
	}
	for _, n := range lengths {
		z.put(uint64(bits.Reverse8(n)>>4), 4)
	}
	z.put(uint64(bits.Reverse8(1)>>4), 4) // the distance 1 is one bit, 0
	z.encode(&codes)
	e := codes[endOfBlock]
	z.put(uint64(e.bits), uint(e.length))
	if last && z.bits > 0 {
		z.put(0, 8-z.bits)
	}
	if z.err == nil {
		_, z.err = z.w.Write(z.out[:z.n])
	}
	z.n = 0
	z.block = append(z.block[:0], z.block[len(z.block)-1])
	z.begun = true
}

// find splits the block into literals and runs, and counts the symbols.
func (z *runWriter) find() (counts [symbols]uint32) {
	var tables [4][256]uint32 // so that equal bytes do not wait for each other
	z.runs = z.runs[:0]
	b := z.block
	from, i := 1, 1
	if !z.begun && len(b) > 1 { // nothing is before the first byte
		tables[0][b[1]]++
		i = 2
	}
	for i+8 <= len(b) {
		v := binary.LittleEndian.Uint64(b[i:])
		same := v ^ binary.LittleEndian.Uint64(b[i-1:]) // zero where a byte is that before it
		if uint32(same) == 0 {
			n := runLength(b[i:], b[i-1])
			z.runs = append(z.runs, run{uint32(i - from), uint32(n)})
			counts[lengthCodes[n].symbol]++
			i += n
			from = i
			continue
		}
		zeros := (same - 0x01010101_01010101) &^ same & high1 // and perhaps more, above a zero
		zeros &= zeros >> 8
		if zeros&(zeros>>16) != 0 { // four in a row
			tables[0][byte(v)]++
			i++
			continue
		}
		tables[0][byte(v)]++
		tables[1][byte(v>>8)]++
		tables[2][byte(v>>16)]++
		tables[3][byte(v>>24)]++
		tables[0][byte(v>>32)]++
		i += 5
	}
	for ; i < len(b); i++ {
		tables[0][b[i]]++
	}
	z.runs = append(z.runs, run{uint32(len(b) - from), 0})
	for s := range 256 {
		counts[s] = tables[0][s] + tables[1][s] + tables[2][s] + tables[3][s]
	}
	return counts
}

// runLength is how often b begins with v.
func runLength(b []byte, v byte) int {
	b = b[:min(len(b), maxRun)]
	n := 0
	for all := uint64(v) * 0x01010101_01010101; n+8 <= len(b); n += 8 {
		if x := all ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
	}
	for n < len(b) && b[n] == v {
		n++
	}
	return n
}

// code is the bits of a symbol, the first lowest.
type code struct {
	bits   uint16
	length uint16
}

func (z *runWriter) encode(codes *[symbols]code) {
	b, out, n, acc, used := z.block[1:], z.out, z.n, z.acc, z.bits
	for _, r := range z.runs {
		lit := b[:r.literals]
		for len(lit) >= 4 {
			v := binary.LittleEndian.Uint32(lit)
			e0, e1, e2, e3 := codes[byte(v)], codes[byte(v>>8)], codes[byte(v>>16)], codes[byte(v>>24)]
			acc |= uint64(e0.bits) << (used & 63)
			used += uint(e0.length)
			acc |= uint64(e1.bits) << (used & 63)
			used += uint(e1.length)
			acc |= uint64(e2.bits) << (used & 63)
			used += uint(e2.length)
			acc |= uint64(e3.bits) << (used & 63)
			used += uint(e3.length)
			binary.LittleEndian.PutUint64(out[n:], acc)
			n += int(used / 8)
			acc >>= used &^ 7 & 63
			used &= 7
			lit = lit[4:]
		}
		for _, v := range lit {
			acc |= uint64(codes[v].bits) << (used & 63)
			used += uint(codes[v].length)
		}
		if r.length > 0 {
			l := lengthCodes[r.length]
			acc |= uint64(codes[l.symbol].bits) << (used & 63)
			used += uint(codes[l.symbol].length)
			binary.LittleEndian.PutUint64(out[n:], acc)
			n += int(used / 8)
			acc >>= used &^ 7 & 63
			used &= 7
			acc |= uint64(l.extra) << used
			used += uint(l.bits) + 1 // and the distance, 0
		}
		binary.LittleEndian.PutUint64(out[n:], acc)
		n += int(used / 8)
		acc >>= used &^ 7 & 63
		used &= 7
		b = b[r.literals+r.length:]
	}
	z.n, z.acc, z.bits = n, acc, used
}

// put appends bits to the output, at most 32.
func (z *runWriter) put(v uint64, n uint) {
	z.acc |= v << z.bits
	z.bits += n
	for z.bits >= 8 {
		z.out[z.n] = byte(z.acc)
		z.n++
		z.acc >>= 8
		z.bits -= 8
	}
}

// lengthCodes are the symbols of runs, with their extra bits (RFC 1951, 3.2.5).
var lengthCodes = func() (codes [maxRun + 1]struct {
	symbol      uint16
	extra, bits uint8
}) {
	length := 3
	for s := 257; s < 285; s++ {
		extra := max(0, (s-261)/4)
		for i := range 1 << extra {
			codes[length].symbol, codes[length].extra, codes[length].bits = uint16(s), uint8(i), uint8(extra)
			length++
			if length > maxRun {
				break
			}
		}
	}
	codes[maxRun].symbol, codes[maxRun].extra, codes[maxRun].bits = 285, 0, 0
	return codes
}()

// codeLengths gives each symbol that occurs the length of its Huffman code, at
// most maxCode: where one would be longer, rare symbols are taken for less rare
// until none is.
func codeLengths(counts []uint32) (lengths [symbols]uint8) {
	type node struct {
		count  uint32
		parent int16
	}
	var order [symbols]int16
	n := 0
	for s, c := range counts {
		if c > 0 {
			order[n] = int16(s)
			n++
		}
	}
	if n == 1 { // one bit, of which the other value stays unused
		lengths[order[0]] = 1
		return lengths
	}
	for {
		used := order[:n]
		slices.SortFunc(used, func(a, b int16) int {
			if counts[a] != counts[b] {
				return int(counts[a]) - int(counts[b])
			}
			return int(a - b)
		})
		// The leaves are in order; the inner nodes that are made of the two
		// smallest come to lie in order behind them.
		var nodes [2 * symbols]node
		for i, s := range used {
			nodes[i].count = counts[s]
		}
		leaf, inner, end := 0, n, n
		take := func() int {
			if leaf < n && (inner == end || nodes[leaf].count <= nodes[inner].count) {
				leaf++
				return leaf - 1
			}
			inner++
			return inner - 1
		}
		for end < 2*n-1 {
			a, b := take(), take()
			nodes[a].parent, nodes[b].parent = int16(end), int16(end)
			nodes[end].count = nodes[a].count + nodes[b].count
			end++
		}
		var depth [2 * symbols]uint8
		longest := uint8(0)
		for i := end - 2; i >= 0; i-- {
			depth[i] = depth[nodes[i].parent] + 1
			longest = max(longest, depth[i])
		}
		if longest <= maxCode {
			for i, s := range used {
				lengths[s] = depth[i]
			}
			return lengths
		}
		for _, s := range used {
			counts[s] = counts[s]/2 + 1
		}
	}
}

// canonical gives the codes to the lengths (RFC 1951, 3.2.2).
func canonical(lengths [symbols]uint8) (codes [symbols]code) {
	var count, next [maxCode + 1]uint16
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	for n := 1; n <= maxCode; n++ {
		next[n] = (next[n-1] + count[n-1]) << 1
	}
	for s, n := range lengths {
		if n > 0 {
			codes[s] = code{bits.Reverse16(next[n]) >> (16 - n), uint16(n)}
			next[n]++
		}
	}
	return codes
}
