// Package decisions reads and writes what a person decides about duplicates: a CSV file
// that a text editor and a spreadsheet can edit. A row is one of what the run decided, with
// an empty decision, or of a person's: keep (the item stays, whatever it matches), reject
// (it goes), or different (item and keeper are no duplicates of each other; the item may be
// one of another).
package decisions
