// Package memory treats memory as a budget. A [Ledger] keeps the leases of one
// device: bytes are reserved before they are allocated, whoever does not fit
// waits in order of priority and age, and what can never fit is refused at once
// with an [OversizeError] that says what is needed and what there is. Work that
// still runs out of memory says so with [ErrOutOfMemory], so that it can be
// repeated in smaller pieces, or with [Retry].
//
// A [Manager] brings together what one process knows: a [Monitor] reads the
// [Device]s again and again, of which [Host] is what the machine and its control
// group allow; ledgers that are attached explain what is used; and a clean-up
// asks each [Reclaimer] for what it can spare, and measures what that brought. A
// [Scope] is the memory of one piece of work, and a [LeakWatch] finds what never
// comes back, and who keeps it.
//
// [ParseBytes], [ParseShare] and [FormatBytes] are the one notation for sizes. The
// package imports nothing of forgepipe but what lies under it.
package memory
