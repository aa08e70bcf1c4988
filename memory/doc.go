// Package memory treats memory as a budget. A [Ledger] keeps the leases of one
// device: bytes are reserved before they are allocated, whoever does not fit
// waits in order of priority and age, and what can never fit is refused at once
// with an [OversizeError] that says what is needed and what there is. Work that
// still runs out of memory says so with [ErrOutOfMemory], so that it can be
// repeated in smaller pieces. [Host] reads what the machine and its control
// group allow, and [ParseBytes], [ParseShare] and [FormatBytes] are the one
// notation for sizes. The package imports nothing of forgepipe.
package memory
