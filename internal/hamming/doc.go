// Package hamming finds the nearest of many hashes within a Hamming distance, or
// all of them, exactly: an [Index] answers what comparing with each of them would,
// for every distance, and is fast for the small distances that mean "the same
// picture".
package hamming
