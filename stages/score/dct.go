package score

// Half the cosines of k pi/16: the factors of the orthonormal DCT-II of 8
// samples.
const (
	c1 = 0.490392640201615224563091118067119
	c2 = 0.461939766255643378064141594698393
	c3 = 0.415734806151272618539394188808953
	c4 = 0.353553390593273762200422181052424
	c5 = 0.277785116509801112371415406974266
	c6 = 0.191341716182544885864229992015199
	c7 = 0.097545161008064133924142434238511
)

// dct8 puts the DCT of src into dst. Products are rounded before they are
// added, on machines that could fuse the two as well.
func dct8(dst, src *[8]float64) {
	dst[0], dst[1], dst[2], dst[3], dst[4], dst[5], dst[6], dst[7] = transform(src[0], src[1], src[2], src[3], src[4], src[5], src[6], src[7])
}

// columns transforms the columns of a block.
func (b *block) columns() {
	for x := range 8 {
		b[x], b[8+x], b[16+x], b[24+x], b[32+x], b[40+x], b[48+x], b[56+x] = transform(b[x], b[8+x], b[16+x], b[24+x], b[32+x], b[40+x], b[48+x], b[56+x])
	}
}

// transform adds and subtracts samples that lie symmetrically, which halves the
// products: even coefficients see sums, odd ones differences. What is flat has
// coefficients that are exactly 0.
func transform(x0, x1, x2, x3, x4, x5, x6, x7 float64) (y0, y1, y2, y3, y4, y5, y6, y7 float64) {
	s0, s1, s2, s3 := x0+x7, x1+x6, x2+x5, x3+x4
	d0, d1, d2, d3 := x0-x7, x1-x6, x2-x5, x3-x4

	outer, middle := s0+s3, s1+s2
	y0 = c4 * (outer + middle)
	y4 = c4 * (outer - middle)
	e0, e1 := s0-s3, s1-s2
	y2 = float64(c2*e0) + float64(c6*e1)
	y6 = float64(c6*e0) - float64(c2*e1)

	y1 = float64(c1*d0) + float64(c3*d1) + float64(c5*d2) + float64(c7*d3)
	y3 = float64(c3*d0) - float64(c7*d1) - float64(c1*d2) - float64(c5*d3)
	y5 = float64(c5*d0) - float64(c1*d1) + float64(c7*d2) + float64(c3*d3)
	y7 = float64(c7*d0) - float64(c5*d1) + float64(c3*d2) - float64(c1*d3)
	return
}
