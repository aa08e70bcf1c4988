// Package index keeps the fingerprints of a finished set of pictures in a folder, so that
// new pictures are compared with the set without reading it again. [Add] makes the folder
// or adds to it, [Open] reads it.
//
// A fingerprint is a hash, a vector or a small picture; each kind is a column. All entries of
// an index have the same columns, each made by one network in one way or by one version of an
// algorithm: what was made otherwise cannot be compared, and is refused.
//
// A column is large where its fingerprints have more than 16 KiB, as pictures do. They lie
// in files of their own, so that reading IDs and hashes reads nothing of them and passes over
// nothing, and [Index.Picked] reads those that it is asked for.
//
// # Adding is atomic
//
// The folder holds segments, which are never changed, and index.json, which names those that
// count. Add writes the files of a new segment, puts them on disk, and then replaces index.json
// by a rename. So a process that is killed, or a disk that fails, leaves the index as it was
// before or as it is after. What such an add leaves behind is removed by the next one. Who has
// opened the index goes on reading the state that it opened. Only one process at a time adds:
// the lock file index.lock is taken while it does, and the second one gets a [*LockedError].
//
// Where an add makes more than 32 segments, it merges the smaller half of them into one, in
// the same rename. Until then both lie on the disk.
//
// # The files
//
// index.json is JSON. Its last member, sha256, is the SHA-256, in hexadecimal digits, of the
// bytes of the file before it, up to but without the comma that precedes it: all but the last
// 83 bytes. The other members are:
//
//	format    "forgepipe dedup index"
//	version   2; 3 where there are large columns, and nothing that is said of them is in 2
//	created   when the index was made (RFC 3339, UTC)
//	next      the number of the next segment
//	entries   how many entries there are in all segments
//	columns   in order, of each: name; bytes of one fingerprint; vector: whether it is float32
//	          numbers, little-endian, and not a hash; model: that of the vectors, which
//	          tells of the network, of its output and of how pictures are prepared, empty
//	          for what no network made; version: of the algorithm
//	roots     absolute paths of the folders that IDs are relative to, percent-encoded as IDs
//	          are; entries name them by their numbers, from 1 on. They take 1 MiB at most: of
//	          the pictures of further folders it is not known where they lie
//	segments  of each: name of the file; entries; bytes; large: bytes of the further file of
//	          each large column, in their order; sha256 of its file header and all its block
//	          headers, one after another; added: when its newest entries were added
//
// A segment (segment-00000001.fpi) is a file header and blocks, to the end of the file.
// Integers are unsigned and little-endian, checksums are CRC-32C (Castagnoli), and C is the
// number of columns:
//
//	file header   bytes      "fpdedup", then the version as a byte, 2 or 3
//	              4          C
//	              C x 4      bytes of one fingerprint of each column
//	              4          checksum of the file header so far
//	block header  4          entries in the block
//	              4, 4       bytes of the chunk of keys, and their checksum
//	              C x (4, 4) the same for the chunk of each column
//	              4          checksum of the block header so far
//	keys          of each entry:
//	              varint     bytes of the ID (unsigned LEB128)
//	              ...        the ID, UTF-8 without control characters
//	              32         SHA-256 of the source file
//	              4          number of the root; 0 where that is not known
//	              4, 4       width and height of the picture in pixels
//	column        bitmap     one bit per entry, from the lowest bit of the first byte on: whether
//	              the entry has a fingerprint; the bits left over are 0
//	              ...        the fingerprints of those that have one, one after another; of a
//	              large column a checksum of each instead, of 4 bytes
//
// Where its second column is large, the segment has the further file segment-00000001-2.fpl.
// It holds the fingerprints of that column of all entries that have one, in the order of the
// entries, and nothing else. So a fingerprint begins at its size times the number of those
// before it, which the bits in its block tell, and of earlier blocks the length of the chunk.
//
// The entries of a segment are in ascending order of their IDs' bytes, those with one ID in
// that of their SHA-256; no entry, which is ID and SHA-256, is in the index twice. A block
// holds about 256 KiB, or one entry that is larger. Nothing is compressed: hashes and the digits
// of vectors are noise (zstd makes vectors no smaller).
package index
