// Package store keeps networks under names. A [Registry] says what is publicly known of
// a network's file: where it comes from, its size, its hash and its licence. A [Store] is
// the folder in which fetched and added files lie, with models.lock, which records the
// hash of each, so that a name means the same bytes for ever. [Find] is for stages: it
// turns what a pipeline says of a model, a name or a path, into a file.
//
// Only [Store.Fetch] opens a connection, and only when it is called. It takes https
// only, refuses addresses that are not public, goes on where it was, and puts nothing in
// place whose hash is not right. Nothing here runs code of a model.
package store
