// Package groups writes down what de-duplication found: the groups of pictures, each
// with its keeper and its rejected members, as JSON Lines or Parquet; and the pairs
// within the thresholds with what was measured of them, from which a [Pairs.Sweep] tells
// what other thresholds would reject, without looking at a picture again.
package groups
