// Package filter is the stage "filter": it keeps the items for which a condition
// over their attributes is true, and rejects the others with the condition and
// the values that decided.
//
// Conditions are written in the language of github.com/expr-lang/expr, or rather
// in a part of it: comparisons, arithmetic, and, or, not, in, matches, a choice
// and a few functions. What could run long, depend on the clock, or hide which
// attributes it reads is refused, as a pipeline file may come from anywhere.
package filter
