//go:build soak

package dedup_test

import "testing"

func TestSoakNoFileIsLostWhateverFails(t *testing.T) { noFileIsLost(t, 1<<40) }

func TestSoakNothingIsRejectedForWhatCannotBeMeasured(t *testing.T) { cannotBeMeasured(t, 1) }
