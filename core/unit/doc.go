// Package unit reads unit files: parse, print, hash, names and templates, the table of [X-Fleet] options.
package unit
