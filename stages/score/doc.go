// Package score is the stage "score": it measures images and sets what it
// measures as attributes, for filters to decide on and for the manifest.
//
// A metric is one file with a name, a description and a function; list it in
// metrics and it is configurable, documented and cached.
package score
