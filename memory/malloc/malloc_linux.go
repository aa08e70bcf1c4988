//go:build linux && !android && !faketime && (386 || amd64 || arm || arm64 || loong64 || ppc64le || riscv64 || s390x)

package malloc

import (
	"runtime"
	"sync"

	"github.com/ebitengine/purego"
)

// info is struct mallinfo2 of malloc.h, whose fields are size_t.
type info struct {
	_       [4]uintptr // arena, ordblks, smblks, hblks
	Mmapped uintptr    // hblkhd: bytes in mappings of their own
	_       [2]uintptr // usmblks, fsmblks
	InUse   uintptr    // uordblks: bytes in use in the arenas
	_       [2]uintptr // fordblks, keepcost
}

// library is what this process's C library has; nil is what it has not.
type library struct {
	trim func(pad uintptr) int32
	info func() info
}

var libc = sync.OnceValue(func() library {
	var l library
	if at, err := purego.Dlsym(purego.RTLD_DEFAULT, "malloc_trim"); err == nil {
		purego.RegisterFunc(&l.trim, at)
	}
	switch runtime.GOARCH {
	case "amd64", "arm64", "loong64", "ppc64le": // where purego can return a struct
		// mallinfo, which is older, counts in int and so is wrong from 2 GiB on.
		if at, err := purego.Dlsym(purego.RTLD_DEFAULT, "mallinfo2"); err == nil { // glibc 2.33
			purego.RegisterFunc(&l.info, at)
		}
	}
	return l
})

// Trim gives free memory of all arenas back to the system (malloc_trim(0), see
// malloc_trim(3)), and tells whether there was any that could be given back. It
// holds each arena's lock meanwhile, some milliseconds for a heap of gigabytes.
func Trim() bool {
	l := libc()
	return l.trim != nil && l.trim(0) != 0
}

// InUse is how many bytes C code has allocated and not freed, over all arenas
// and with large blocks, which have mappings of their own (mallinfo2, see
// mallinfo(3)). Small blocks that threads keep in their caches count as in use.
// It is not known where the C library is not GNU's from 2.33 (2021) on, nor on
// 386, arm, riscv64 and s390x. Another allocator that was put in malloc's place,
// such as jemalloc by LD_PRELOAD, is not seen: then InUse is near zero.
func InUse() (bytes int64, ok bool) {
	l := libc()
	if l.info == nil {
		return 0, false
	}
	i := l.info()
	return int64(i.InUse + i.Mmapped), true
}
