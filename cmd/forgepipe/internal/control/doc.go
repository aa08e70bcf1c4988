// Package control is how one forgepipe process asks another about its run: a
// Unix socket in the run's state directory, on which a [Server] answers HTTP
// requests and a [Client] makes them. GET /memory gives a [Report], POST /clear
// a [Cleaned], POST /pause and POST /resume a [State], all in JSON. Only the run's
// user can reach it.
package control
