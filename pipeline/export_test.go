package pipeline

import "github.com/forgepipe/forgepipe/internal/runstore"

// Seams for tests of what cannot be had from outside: a failing database and a
// machine that went down.

// FailSQL calls f before every statement and commit of the run store.
func (o *RunOptions) FailSQL(f func(op string) error) { o.beforeSQL = f }

// Boot makes the run believe in another boot of the machine.
func (o *RunOptions) Boot(id string) { o.bootID = id }

// Pin sets workers and batch size of every step.
func (p *Pipeline) Pin(workers, batch int) {
	for _, s := range p.steps {
		s.Workers, s.Batch = workers, batch
	}
}

// Segments sets the file system under the cached results.
func (o *RunOptions) Segments(f runstore.FS) { o.segments = f }
