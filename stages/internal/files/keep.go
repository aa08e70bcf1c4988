package files

// KeepExtensions tells which images of one folder must keep their extension in
// the names of what is made of them, because two would otherwise get the same
// name: those that share a stem, and then those whose stem is the full name of
// one that keeps it (a.jpg and a.png become a.jpg.png and a.png.png, and so
// would a.jpg.gif, which has to become a.jpg.gif.png).
func KeepExtensions(names []string) []bool {
	keep := make([]bool, len(names))
	next := make([]int32, len(names)) // the other images with this one's stem
	first := make(map[string]int32, len(names))
	var todo []int32
	mark := func(i int32) {
		if !keep[i] {
			keep[i] = true
			todo = append(todo, i)
		}
	}
	for i, name := range names {
		stem, _ := StemExt(name)
		j, shared := first[stem]
		if !shared {
			j = -1
		}
		next[i] = j
		first[stem] = int32(i)
		if shared {
			mark(int32(i))
			mark(j)
		}
	}
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		j, ok := first[names[i]]
		for ; ok && j >= 0; j = next[j] {
			mark(j)
		}
	}
	return keep
}
