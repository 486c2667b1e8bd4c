// Package unit reads unit files: parse, print, hash, names and templates, the table of [X-Fleet] options.
//
// Always true, and checked by properties:
//
//   - Parse of what String prints gives equal options, and String of that prints the
//     same text: what is hashed, sent, stored and written to disks is one text.
//   - Nothing that Parse accepts is longer in its normal form than Parse accepts.
//   - Whatever an [X-Fleet] section does not mention decides nothing.
package unit
