package nearest_test

import (
	"math"
	"math/rand/v2"
)

// Sets of vectors, as they come and as they are hard.

type vectors [][]float32

// random are in no direction more than in another.
func random(n, d int, seed uint64) vectors {
	r := rand.New(rand.NewPCG(seed, 0))
	all := make(vectors, n)
	for i := range all {
		all[i] = normal(r, d)
	}
	return all
}

func normal(r *rand.Rand, d int) []float32 {
	v := make([]float32, d)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// clustered are around few middles, at many distances from them.
func clustered(n, d int, seed uint64) vectors {
	r := rand.New(rand.NewPCG(seed, 1))
	middles := random(max(n/20, 1), d, seed+1)
	all := make(vectors, n)
	for i := range all {
		spread := math.Pow(10, -3*r.Float64())
		all[i] = normal(r, d)
		for j, m := range middles[r.IntN(len(middles))] {
			all[i][j] = m + float32(spread)*all[i][j]
		}
	}
	return all
}

// likePictures are as networks for pictures make them: all about one direction, and with
// less and less in further ones.
func likePictures(n, d int, seed uint64) vectors {
	r := rand.New(rand.NewPCG(seed, 2))
	mix := random(d, d, seed+1)
	all := make(vectors, n)
	for i := range all {
		v := make([]float64, d)
		for j, row := range mix {
			a := r.NormFloat64() / float64(1+j)
			if j == 0 {
				a = 1.3
			}
			for c, b := range row {
				v[c] += a * float64(b)
			}
		}
		all[i] = make([]float32, d)
		for c, a := range v {
			all[i][c] = float32(a)
		}
		if i%10 == 9 { // near to one before
			for c, a := range all[r.IntN(i)] {
				all[i][c] = a + all[i][c]*float32(0.2*r.Float64())
			}
		}
	}
	return all
}

// equal are all the same, but for their length.
func equal(n, d int) vectors {
	one := random(1, d, 3)[0]
	all := make(vectors, n)
	for i := range all {
		all[i] = make([]float32, d)
		for j, a := range one {
			all[i][j] = a * float32(int(1)<<(i%3))
		}
	}
	return all
}

// atThreshold are pairs whose similarity is next to within, by so much more or less that
// float32 cannot tell on which side they are, in directions in which nothing else is.
func atThreshold(n, d int, within float64) vectors {
	r := rand.New(rand.NewPCG(uint64(d), 4))
	by := []float64{0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4}
	var all vectors
	for i := 0; len(all) < n; i++ {
		a, b := normal(r, d), normal(r, d)
		var ab, aa float64
		for j := range a {
			ab += float64(a[j]) * float64(b[j])
			aa += float64(a[j]) * float64(a[j])
		}
		var rest float64
		c := make([]float64, d)
		for j := range a {
			c[j] = float64(b[j]) - ab/aa*float64(a[j])
			rest += c[j] * c[j]
		}
		s := within + by[i%len(by)]*float64(1-2*(i/len(by)%2))
		s = max(-1, min(1, s))
		for j := range a {
			b[j] = float32(s*float64(a[j])/math.Sqrt(aa) + math.Sqrt(1-s*s)*c[j]/math.Sqrt(rest))
			a[j] = float32(float64(a[j]) / math.Sqrt(aa))
		}
		all = append(all, a, b)
	}
	return all[:n]
}

// lopsided have one that is very long, and others that are very short.
func lopsided(n, d int) vectors {
	all := clustered(n, d, 9)
	for i, v := range all {
		by := float32(1)
		switch {
		case i == n/2:
			by = 1e9
		case i%3 == 1:
			by = 1e-9
		case i%3 == 2:
			by = 100
		}
		for j := range v {
			v[j] *= by
		}
	}
	return all
}
