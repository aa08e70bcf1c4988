package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

type versionJSON struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Decoders string `json:"decoders"`
	Encoders string `json:"encoders"`
}

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Say which version this is",
		Long:    "Say which version this is, which Go it was built with, for which platform, and which\ndecoders it has: outputs are the same bytes for the same decoders and encoders.",
		Example: "  forgepipe version\n  forgepipe version --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.begun = true
			return runVersion(a)
		},
	}
}

func runVersion(a *app) error {
	v := versionJSON{
		Version: versionOf(a.version), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Decoders: imageio.Decoder(), Encoders: imageio.Encoder(),
	}
	if a.result.json {
		a.result.set(func(e *envelope) { e.Version = &v })
		return nil
	}
	_, err := fmt.Fprintf(a.stdout, "forgepipe %s\ngo        %s\nplatform  %s\ndecoders  %s\nencoders  %s\n",
		v.Version, v.Go, v.Platform, v.Decoders, v.Encoders)
	return err
}

// versionOf is what the linker was told, otherwise what the Go command knows of
// the build.
func versionOf(linked string) string {
	if linked != "" {
		return linked
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return "devel"
	}
	return "devel-" + revision + dirty
}
