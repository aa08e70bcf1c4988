package fsys

import (
	"fmt"
	"strings"
)

// maxComponent is what ext4, xfs, btrfs, apfs and ntfs allow in one component.
const maxComponent = 255

// CheckName refuses a name that is not a plain relative path on every system
// that a data set may be copied to: an empty or absolute name, an empty, "." or
// ".." component, a NUL, a backslash, a drive letter, a device name that
// Windows reserves (CON, nul.txt, com1.png), a component of over 255 bytes.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("checking name: it is empty")
	case strings.HasPrefix(name, "/"):
		return fmt.Errorf("checking name %q: it is absolute: make it relative to the folder", name)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("checking name %q: it contains a NUL", name)
	case strings.ContainsRune(name, '\\'):
		return fmt.Errorf("checking name %q: it contains a backslash: separate folders with /", name)
	case len(name) >= 2 && name[1] == ':' && isLetter(name[0]):
		return fmt.Errorf("checking name %q: it begins with a drive letter: make it relative to the folder", name)
	}
	for c := range strings.SplitSeq(name, "/") {
		switch {
		case c == "":
			return fmt.Errorf("checking name %q: it has an empty component: remove the extra /", name)
		case c == ".":
			return fmt.Errorf("checking name %q: it has a component %q: remove it", name, c)
		case c == "..":
			return fmt.Errorf("checking name %q: it leaves the folder", name)
		case len(c) > maxComponent:
			return fmt.Errorf("checking name %.40q...: a component has %d bytes, the limit is %d: shorten it",
				name, len(c), maxComponent)
		case isReserved(c):
			return fmt.Errorf("checking name %q: Windows reserves %q for a device: rename it", name, c)
		}
	}
	return nil
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// isReserved follows "Naming Files, Paths, and Namespaces" of the Windows
// documentation: the extension and spaces before it do not matter, and the
// superscript digits count as digits.
func isReserved(component string) bool {
	stem, _, _ := strings.Cut(component, ".")
	stem = strings.ToUpper(strings.TrimRight(stem, " "))
	switch stem {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	digit, ok := strings.CutPrefix(stem, "COM")
	if !ok {
		digit, ok = strings.CutPrefix(stem, "LPT")
	}
	switch digit {
	case "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³":
		return ok
	}
	return false
}
