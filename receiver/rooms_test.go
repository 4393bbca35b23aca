package receiver_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rooms and which of our own each may import. What one room may not know, it cannot break.
// Tests may import any room: they introduce them to each other as main does.
var rooms = map[string][]string{
	"ledger":                     {"ledger/fold"},
	"ledger/fold":                {},
	"ledger/ledgertest":          {"ledger"},
	"metrics":                    {},
	"systemd":                    {},
	"receiver":                   {"ledger", "metrics", "receiver/health", "receiver/server", "receiver/stripe"},
	"receiver/bench":             {},
	"receiver/cli":               {"ledger", "receiver/bench", "receiver/config", "receiver/doctor", "receiver/health", "receiver/operator", "receiver/reconcile", "receiver/stripe"},
	"receiver/config":            {},
	"receiver/doctor":            {"ledger", "receiver/config", "receiver/health", "receiver/operator", "receiver/reconcile", "receiver/stripe"},
	"receiver/health":            {},
	"receiver/operator":          {"ledger", "receiver/health"},
	"receiver/reconcile":         {"ledger", "metrics", "receiver/health", "receiver/stripe"},
	"receiver/server":            {},
	"receiver/server/servertest": {},
	"receiver/stripe":            {"ledger", "ledger/fold"},
	"receiver/stripe/stripetest": {},
	".":                          {"receiver/app"},
	"receiver/app":               {"ledger", "metrics", "receiver", "receiver/cli", "receiver/config", "receiver/health", "receiver/operator", "receiver/reconcile", "receiver/server", "receiver/stripe", "systemd"},
}

// Packages of others that belong to one room, and why.
var bound = []struct {
	imported string
	rooms    []string
	reason   string
}{
	{"go.etcd.io/bbolt", []string{"ledger"}, "no bbolt type leaves the ledger"},
	{"github.com/stripe/stripe-go", []string{"receiver/stripe"}, "one room knows Stripe's wire"},
	{"github.com/prometheus", []string{"metrics"}, "every instrument stands in one list"},
	{"golang.org/x/crypto/acme", []string{"receiver/server"}, "only the webhook listener has certificates"},
	{"github.com/coreos/go-systemd", []string{"systemd"}, "one room talks to the service manager"},
	{"github.com/caarlos0/env", []string{"receiver/config"}, "the environment is read in one place"},
	{"github.com/spf13/cobra", []string{"receiver/cli"}, "commands are a matter of the command line"},
	{"net/http", []string{"receiver", "receiver/bench", "receiver/cli", "receiver/doctor", "receiver/operator", "receiver/server", "receiver/stripe", "receiver/stripe/stripetest", "metrics", "receiver/app"}, "only the receiver uses the network; metrics returns a handler"},
}

// The sources are parsed here: a test that asks the go command keeps passing from its cache.
func TestRoomsImportOnlyWhatTheyMay(t *testing.T) {
	const root, module = "..", "tillhook"
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && file != root && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		room := path.Dir(filepath.ToSlash(rel))
		seen[room] = true
		may, known := rooms[room]
		if !known {
			t.Errorf("%s is in a room that is not in the table", rel)
			return nil
		}
		source, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range source.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if ours, ok := strings.CutPrefix(imported, module+"/"); ok && !slices.Contains(may, ours) {
				t.Errorf("%s imports %s: %s may import %v of ours", rel, imported, room, may)
			}
			for _, b := range bound {
				if (imported == b.imported || strings.HasPrefix(imported, b.imported+"/")) && !slices.Contains(b.rooms, room) {
					t.Errorf("%s imports %s, which belongs to %v: %s", rel, imported, b.rooms, b.reason)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !seen["ledger"] || !seen["receiver/stripe"] {
		t.Errorf("the sources were not found: %v", seen)
	}
}
