package checkpoint

import "strings"

// wrappers are the keys under which training scripts keep a network's weights beside
// other things, the averaged ones first, since those are what authors mean to be used.
var wrappers = []string{"params_ema", "params-ema", "params", "model_state_dict", "state_dict", "model", "net", "network", "ema"}

// prefixes are what wrappers of modules put before every name.
var prefixes = []string{"module.", "netG.", "_orig_mod.", "generator."}

// maxWrapped is how deep dictionaries are looked into.
const maxWrapped = 16

// strip takes prefixes away that all names have.
func (f *File) strip() {
	for {
		found := false
		for _, p := range prefixes {
			all := true
			for i := range f.Tensors {
				// One that would have no name left keeps it.
				all = all && strings.HasPrefix(f.Tensors[i].Name, p) && len(f.Tensors[i].Name) > len(p)
			}
			if !all {
				continue
			}
			for i := range f.Tensors {
				f.Tensors[i].Name = f.Tensors[i].Name[len(p):]
			}
			f.Prefix += p
			found = true
		}
		if !found {
			return
		}
	}
}
