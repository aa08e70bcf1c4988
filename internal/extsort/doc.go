// Package extsort sorts records that need not fit in memory. Records are added
// from any number of goroutines; whenever they exceed the memory given, they go
// to disk as a sorted run, and reading merges the runs. Equal keys keep the
// order in which they were added. What is read back is checked, so that a
// damaged or shortened run is an error and never a record that is missing.
package extsort
