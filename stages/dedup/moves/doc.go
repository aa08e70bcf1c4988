// Package moves does what is to be done with the source files of duplicates: it moves
// them into a folder, copies them or links them there, or deletes them. With a picture
// go its sidecars and, of a pair, the low-quality picture with its own. [Restore] brings
// back what was moved.
//
// Before any file is touched, a record of all that is going to happen is on the disk:
// [RecordName], JSON lines. Before each file is touched, it is looked at again, and so
// is the picture that is kept in its stead; a file with which something is not as the
// run saw it is left alone, with the reason. Nothing is ever written over. At every
// instant the bytes of a file that is moved are whole under its old name, or under the
// new one that the record tells.
//
// The picture goes last of what belongs to it. If something of it cannot go, what had
// gone comes back, so that nothing is in another folder than its picture. Only when it
// is deleted the picture goes first, as nothing of one that stays must go. Only a
// picture with a keeper is deleted: one that a person rejected without one stays where
// it is.
//
// A process that was killed is made up for by the next Apply with the same record, before
// that does anything else and whatever it is to do: what was moved of a picture that is
// in its place comes back, and what belongs to one that was deleted goes. What cannot be
// made up for is told of and looked at again by the next one, and its picture is not
// touched until then. Restore needs no more than the lines that were written before the
// first file was touched.
package moves
