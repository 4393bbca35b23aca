// Command tillhook receives Stripe's webhooks on its owner's machine: it verifies each event,
// stores it exactly once, and maintains a ledger of payments that is correct in whatever order the
// events arrive.
//
// Package receiver/app assembles and runs the receiver.
package main

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"

	"tillhook/receiver/app"
)

//go:embed testdata/events/*.json
var samples embed.FS

// version is set by the linker for a release: -ldflags "-X main.version=v1.2.3".
var version string

func main() { os.Exit(run("/")) }

// run returns the exit status. The units of the installed service are below root.
func run(root string) int {
	events, err := fs.Sub(samples, "testdata/events")
	if err != nil {
		fmt.Fprintln(os.Stderr, "tillhook:", err)
		return 1
	}
	return app.Main(versionName(), events, root)
}

// versionName returns the release, or what the build knows about its source.
func versionName() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return strings.Trim(info.Main.Version, "()") // "(devel)" for a build in the source's folder
	}
	return "devel"
}
