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
// A [Governor] decides how many items each run of a network takes. A [Workload] is
// one session of a network on a device: it is asked before each run what comes next,
// with the bytes that there are for the session's arena, and is told how the run
// ended. From that the Governor learns what runs cost ([CostModel]) and how long they
// take ([SpeedModel]), and divides a device among the networks on it; [Neighbours]
// expects what others will want of it. How large a batch is for that is up to a
// [Strategy]: "adaptive" takes the smallest that is nearly as fast as the largest that
// has room. Each change is a [Decision] that says why, and an [Account] tells at the
// end what a network did and what limited it. What was learned can be kept in a file
// ([WriteLearned]) for the next run to begin with. The Governor reads no device, starts
// nothing and knows no runtime: memory/sim puts it to work in simulated time.
//
// [ParseBytes], [ParseShare] and [FormatBytes] are the one notation for sizes. The
// package imports nothing of forgepipe but what lies under it.
package memory
