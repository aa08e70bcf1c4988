// Forgepipe runs image-data-set pipelines: see "forgepipe --help".
package main

import (
	"os"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version string

func main() {
	if os.Getenv(model.OrderVariable) == "" {
		_ = os.Setenv(model.OrderVariable, model.OrderByBus) // it fails for impossible names only
	}
	os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, standard.Registry(), version))
}
