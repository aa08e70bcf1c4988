// Package score is the stage "score": it measures images and sets what it
// measures as attributes, for filters to decide on and for the manifest.
//
// A metric is one file with a name, a description and a function; list it in
// metrics and it is configurable, documented and cached. All but saturation look at the
// gray image, in levels from 0 to 255, to which 16-bit samples are scaled. All are
// float64:
//
//   - laplacian: mean absolute response of the 4-neighbour Laplacian; 0 is flat.
//   - sharpness: its variance (Pech-Pacheco et al. 2000).
//   - blockiness: traces of JPEG's 8x8 blocks (Bhardwaj and Pankajakshan 2018), on the
//     source file's grid; about 1 to 3 uncompressed, above 150 at quality 30.
//   - entropy: of the histogram, in bits, 0 to 8 (Shannon 1948).
//   - brightness: mean, 0 to 255.
//   - contrast: standard deviation (Peli 1990).
//   - saturation: mean of HSV's, 0 to 1 (Smith 1978).
//   - noise: standard deviation of the noise (Immerkaer 1996).
package score
