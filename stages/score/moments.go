package score

import (
	"math/big"
	"math/bits"
)

// moments are exact sums of numbers and of their squares, so that the variance
// of a flat picture is 0 and that of any other does not depend on the order.
type moments struct {
	n         int64
	sum       int64
	high, low uint64 // of the squares
}

func (m *moments) add(values []int32) {
	sum, high, low := m.sum, m.high, m.low
	var carry uint64
	for _, v := range values {
		d := int64(v)
		sum += d
		low, carry = bits.Add64(low, uint64(d*d), 0)
		high += carry
	}
	m.n += int64(len(values))
	m.sum, m.high, m.low = sum, high, low
}

// variance is the mean square minus the square of the mean, rounded once.
func (m *moments) variance() float64 {
	n, sum := big.NewInt(m.n), big.NewInt(m.sum)
	squares := new(big.Int).SetUint64(m.high)
	squares.Lsh(squares, 64)
	squares.Add(squares, new(big.Int).SetUint64(m.low))
	squares.Mul(squares, n)
	squares.Sub(squares, sum.Mul(sum, sum))
	v, _ := new(big.Rat).SetFrac(squares, n.Mul(n, n)).Float64()
	return v
}
