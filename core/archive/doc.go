// Package archive is the file format of a backup: one state of a store, compressed, checked and on its own.
//
// Numbers are little-endian.
//
//	offset  size  field
//	0       8     magic "keelarch"
//	8       2     version of this layout, 1
//	10      4     length of the description, at most 64 KiB
//	14      …     description: JSON, see Meta
//	…       …     blocks: length (4), one zstd frame of at most 1 MiB of the
//	              store's own snapshot; a length of 0 ends them
//	end-56  8     bytes of all blocks, uncompressed
//	end-48  8     hash of the state, as store.View.Hash has it
//	end-40  8     hash of the content, as store.View.ContentHash has it
//	end-32  32    SHA-256 of all bytes before
//
// A file is written front to back from an immutable view, so a store of any size
// passes through a few MiB of memory. What is read is not trusted: lengths are
// bounded before memory is taken, and nothing counts before the last byte was seen.
package archive
