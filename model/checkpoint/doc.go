// Package checkpoint reads the weights that others publish: safetensors files, and what
// torch.save writes (.pth, .pt, .bin), as a zip archive or in the format that was before
// it. Python is not needed, and reading a file never runs code that is in it: of a
// pickle only what builds dictionaries, lists and tensors is understood, and everything
// else is refused by its name.
//
// A file is mapped: tensors are views of it, so that opening one takes no memory that
// grows with its weights. (The sums in a zip archive are checked, which reads it once.) What is damaged or hostile gives an
// error that says what is wrong, before anything is allocated that the file's own size
// does not justify.
package checkpoint
