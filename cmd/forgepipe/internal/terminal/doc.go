// Package terminal shows a run to people: its messages as they come, its
// progress below them, its plan before and its summary afterwards. All of it is
// text for one writer, as a rule standard error.
package terminal
