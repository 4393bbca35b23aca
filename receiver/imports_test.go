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

// allowed lists the packages of this module, and which others of it each may import. Tests may
// import any package.
var allowed = map[string][]string{
	"ledger":                     {"ledger/backup", "ledger/check", "ledger/export", "ledger/fold", "ledger/posting", "ledger/rebuild", "ledger/retention", "ledger/scan", "ledger/schema", "ledger/store"},
	"ledger/backup":              {"ledger/schema", "ledger/store"},
	"ledger/check":               {"ledger/schema", "ledger/store", "ledger/wording"},
	"ledger/export":              {"ledger/fold", "ledger/scan", "ledger/schema", "ledger/store", "ledger/wording"},
	"ledger/fold":                {},
	"ledger/ledgertest":          {"ledger"},
	"ledger/posting":             {"ledger/fold", "ledger/schema", "ledger/store"},
	"ledger/rebuild":             {"ledger/backup", "ledger/check", "ledger/fold", "ledger/posting", "ledger/retention", "ledger/schema", "ledger/store"},
	"ledger/retention":           {"ledger/schema", "ledger/store"},
	"ledger/scan":                {"ledger/schema", "ledger/store"},
	"ledger/schema":              {"ledger/fold", "ledger/store"},
	"ledger/store":               {},
	"ledger/wording":             {},
	"metrics":                    {},
	"systemd":                    {},
	"receiver":                   {"ledger", "ledger/wording", "metrics", "receiver/health", "receiver/server", "receiver/stripe"},
	"receiver/bench":             {},
	"receiver/cli":               {"ledger", "ledger/check", "ledger/export", "ledger/rebuild", "ledger/wording", "receiver/bench", "receiver/config", "receiver/delivery", "receiver/doctor", "receiver/health", "receiver/operator", "receiver/reconcile", "receiver/stripe", "receiver/terminal", "systemd"},
	"receiver/config":            {},
	"receiver/delivery":          {"receiver/config", "receiver/stripe"},
	"receiver/doctor":            {"ledger", "ledger/wording", "receiver/config", "receiver/health", "receiver/operator", "receiver/reconcile", "receiver/stripe"},
	"receiver/health":            {},
	"receiver/operator":          {"ledger", "ledger/check", "ledger/export", "ledger/wording", "receiver/health"},
	"receiver/reconcile":         {"ledger", "ledger/wording", "metrics", "receiver/health", "receiver/stripe"},
	"receiver/server":            {},
	"receiver/server/servertest": {},
	"receiver/stripe":            {"ledger", "ledger/fold", "ledger/wording"},
	"receiver/terminal":          {"ledger", "ledger/wording"},
	"receiver/stripe/stripetest": {},
	".":                          {"receiver/app"},
	"receiver/app":               {"ledger", "ledger/check", "ledger/wording", "metrics", "receiver", "receiver/cli", "receiver/config", "receiver/health", "receiver/operator", "receiver/reconcile", "receiver/server", "receiver/stripe", "systemd"},
}

// bound lists packages of other modules that only some packages may import, and why.
var bound = []struct {
	imported string
	packages []string
	reason   string
}{
	{"go.etcd.io/bbolt", []string{"ledger/store"}, "no bbolt type leaves the store"},
	{"github.com/stripe/stripe-go", []string{"receiver/stripe"}, "only one package knows Stripe's wire format"},
	{"github.com/prometheus", []string{"metrics"}, "all metrics are declared in one place"},
	{"golang.org/x/crypto/acme", []string{"receiver/server"}, "only the webhook listener has certificates"},
	{"github.com/coreos/go-systemd", []string{"systemd"}, "only one package talks to the service manager"},
	{"github.com/caarlos0/env", []string{"receiver/config"}, "the environment is read in one place"},
	{"github.com/spf13/cobra", []string{"receiver/cli"}, "only the command line has commands"},
	{"net/http", []string{"receiver", "receiver/bench", "receiver/cli", "receiver/delivery", "receiver/doctor", "receiver/operator", "receiver/server", "receiver/stripe", "receiver/stripe/stripetest", "metrics", "receiver/app"}, "only the receiver uses the network; metrics returns a handler"},
}

// The test parses the sources itself: if it asked the go command, its cached result would not
// notice a change of a package that it does not import.
func TestImports(t *testing.T) {
	const root, module = "..", "tillhook"
	seen := map[string]bool{}
	used := map[[2]string]bool{} // a package and one that it imports
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
		pkg := path.Dir(filepath.ToSlash(rel))
		seen[pkg] = true
		may, known := allowed[pkg]
		if !known {
			t.Errorf("the package of %s is not in the table", rel)
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
			ours, ok := strings.CutPrefix(imported, module+"/")
			if ok && !slices.Contains(may, ours) {
				t.Errorf("%s imports %s: %s may import %v of ours", rel, imported, pkg, may)
			}
			used[[2]string{pkg, ours}] = true
			for _, b := range bound {
				if (imported == b.imported || strings.HasPrefix(imported, b.imported+"/")) && !slices.Contains(b.packages, pkg) {
					t.Errorf("%s imports %s, which belongs to %v: %s", rel, imported, b.packages, b.reason)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, may := range allowed {
		for _, imported := range may {
			if !used[[2]string{pkg, imported}] {
				t.Errorf("%s may import %s and does not", pkg, imported)
			}
		}
	}
	if !seen["ledger"] || !seen["receiver/stripe"] {
		t.Errorf("the sources were not found: %v", seen)
	}
}
