package receiver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"tillhook/receiver/stripe/stripetest"
)

// docPage is a Markdown page of the documentation.
type docPage struct {
	path   string // relative to the repository
	text   []string
	blocks []block
}

// block is a code block of a page.
type block struct {
	kind string // sh, text, json
	text string
	line int // of its first line
	end  int // of its closing fence
}

// runElsewhere lists the shell blocks that another test runs, by words in their first line: the
// file of that test, and words that stand in it.
var runElsewhere = map[string]struct{ file, words string }{
	"go test ./...":           {".ci/run", "README.md"},
	"systemd/deb/build v":     {"systemd/units_test.go", "deb/build "},
	"tillhook bench     # or": {"testdata/script/bench.txtar", "exec tillhook bench"},
}

// containerBlocks is the list of blocks that the life of a service in a container runs.
const containerBlocks = "testdata/container/blocks"

// emptyLedgers are the pages whose commands begin with an empty ledger. Those of the others begin
// with the events below.
var emptyLedgers = []string{"README.md", "receiver/README.md"}

var firstEvents = []string{"payment_intent.succeeded", "charge.refunded", "refund.created"}

// pages reads all pages.
func pages(t *testing.T) (list []*docPage) {
	t.Helper()
	for _, pattern := range []string{"*.md", "*/*.md", "*/*/*.md", ".github/*.md"} {
		files, err := filepath.Glob(filepath.Join("..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := &docPage{path: filepath.ToSlash(strings.TrimPrefix(file, "../")), text: strings.Split(string(text), "\n")}
			p.readBlocks(t)
			if !slices.ContainsFunc(list, func(q *docPage) bool { return q.path == p.path }) { // * matches dot files
				list = append(list, p)
			}
		}
	}
	if len(list) < 10 {
		t.Fatalf("only %d pages were found", len(list))
	}
	return list
}

// readBlocks finds the code blocks of a page. A block in a list is indented.
func (p *docPage) readBlocks(t *testing.T) {
	t.Helper()
	var open *block
	indent := ""
	for i, line := range p.text {
		trimmed := strings.TrimSpace(line)
		switch {
		case open == nil && strings.HasPrefix(trimmed, "```"):
			indent = line[:strings.Index(line, "`")]
			open = &block{kind: trimmed[3:], line: i + 2}
		case open != nil && trimmed == "```":
			open.end = i + 1
			p.blocks = append(p.blocks, *open)
			open = nil
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		}
	}
	if open != nil {
		t.Errorf("%s:%d: the block does not end", p.path, open.line)
	}
}

// output returns the block that shows what the block at an index prints, or nil.
func (p *docPage) output(i int) *block {
	if i+1 == len(p.blocks) || p.blocks[i+1].kind != "text" && p.blocks[i+1].kind != "json" {
		return nil
	}
	next := &p.blocks[i+1]
	if strings.TrimSpace(strings.Join(p.text[p.blocks[i].end:next.line-2], "")) != "" {
		return nil
	}
	return next
}

// Every shell block of the documentation is run: by this test, which also compares what it prints
// with the block behind it, or by a test that is named above.
func TestPagesAreRun(t *testing.T) {
	t.Parallel()
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	claims := claimedBlocks(t)
	claimed := map[string]int{}
	for _, p := range pages(t) {
		var own []int
		for i, b := range p.blocks {
			if b.kind != "sh" {
				continue
			}
			first, _, _ := strings.Cut(b.text, "\n")
			n := slices.IndexFunc(claims, func(words string) bool { return strings.Contains(first, words) })
			if n < 0 {
				own = append(own, i)
				continue
			}
			claimed[claims[n]]++
		}
		if len(own) == 0 {
			continue
		}
		t.Run(p.path, func(t *testing.T) {
			t.Parallel()
			r := newReader(t, binary, p)
			for _, i := range own {
				r.run(t, i)
			}
		})
	}
	for _, words := range claims {
		if claimed[words] != 1 {
			t.Errorf("%d blocks have %q in their first line, want 1", claimed[words], words)
		}
	}
}

// claimedBlocks returns the words of the blocks that other tests run.
func claimedBlocks(t *testing.T) (list []string) {
	t.Helper()
	for words, by := range runElsewhere {
		text, err := os.ReadFile(filepath.Join("..", by.file))
		if err != nil || !strings.Contains(string(text), by.words) {
			t.Errorf("%s does not run the block with %q: %v", by.file, words, err)
		}
		list = append(list, words)
	}
	text, err := os.ReadFile(filepath.Join("..", containerBlocks))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		_, words, _ := strings.Cut(strings.TrimSpace(line), "\t")
		list = append(list, words)
	}
	return list
}

// harmless is a line that this test may run on any machine.
var harmless = regexp.MustCompile(`^(tillhook|go run \.|curl -s|export [A-Z_]+=\w+\n|([A-Z_]+=\w+ )+go run \.)`)

// reader types the commands of a page, in a folder of its own and with free ports.
type reader struct {
	page     *docPage
	dir      string
	public   string
	operator string
	env      []string
	replace  *strings.Replacer // of what differs from an installed service
	receiver *exec.Cmd         // nil if none runs
	log      bytes.Buffer      // of the receiver, read only once it has ended
}

// goRun stands for the go command of a block.
const goRun = `#!/bin/sh
if [ "$1 $2" != "run ." ]; then echo "the test cannot run: go $*" >&2; exit 1; fi
shift 2
exec tillhook "$@"
`

func newReader(t *testing.T, binary string, p *docPage) *reader {
	t.Helper()
	r := &reader{page: p, dir: t.TempDir(), public: fmt.Sprintf("127.0.0.1:%d", freePort(t)), operator: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	bin := t.TempDir()
	if err := os.Symlink(binary, filepath.Join(bin, "tillhook")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(goRun), 0o755); err != nil {
		t.Fatal(err)
	}
	const endpoint = "https://hooks.example.com/webhooks/stripe"
	account := stripetest.New(t)
	if p.path != "README.md" { // which creates the endpoint
		account.AddEndpoint(map[string]any{"id": "we_1", "url": endpoint, "api_version": stripetest.Version})
	}
	if p.path == "receiver/reconcile/README.md" { // an event that was missed
		body := string(sample(t, "payment_intent.canceled"))
		yesterday := fmt.Sprint(time.Now().Add(-24 * time.Hour).Unix())
		account.AddEvent([]byte(strings.Replace(body, "1776665124", yesterday, 1)), "")
		r.env = append(r.env, "TILLHOOK_RECONCILE_EVERY=0") // else it is fetched at once
	}
	r.env = append(r.env, "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+r.dir, "TMPDIR="+r.dir, "STRIPE_MODE=test", "STRIPE_WEBHOOK_SECRET=whsec_tryout",
		"STRIPE_API_BASE="+account.URL, "STRIPE_SECRET_KEY="+account.Key, "TILLHOOK_PUBLIC_URL="+endpoint,
		"TILLHOOK_LISTEN="+r.public, "TILLHOOK_OPERATOR_LISTEN="+r.operator)
	r.replace = strings.NewReplacer("127.0.0.1:8080", r.public, "127.0.0.1:9464", r.operator, "/run/tillhook/", "tillhook-data/",
		"/etc/tillhook/", r.dir+"/", "/var/backups/", r.dir+"/")
	t.Cleanup(func() {
		r.stop(t)
		if t.Failed() {
			t.Logf("the receiver logged\n%s", &r.log)
		}
	})
	if p.path == "README.md" { // it starts the receiver
		return r
	}
	r.start(t, "tillhook serve")
	if slices.Contains(emptyLedgers, p.path) {
		return r
	}
	for _, typ := range firstEvents {
		if out, err := r.shell(t, "tillhook send --type "+typ); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return r
}

// command returns a shell that runs text, as a group of processes.
func (r *reader) command(ctx context.Context, text string) *exec.Cmd {
	c := exec.CommandContext(ctx, "sh", "-euc", text)
	c.Dir, c.Env, c.Stdin = r.dir, r.env, strings.NewReader("y\n")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	return c
}

// shell runs text and returns what it prints.
func (r *reader) shell(t *testing.T, text string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := r.command(ctx, text).CombinedOutput()
	return string(out), err
}

// start runs a receiver and waits until it answers.
func (r *reader) start(t *testing.T, text string) {
	t.Helper()
	r.receiver = r.command(context.Background(), text)
	r.receiver.Stderr = &r.log
	if r.page.path == "README.md" { // the receiver there has no API key
		r.receiver.Env = slices.DeleteFunc(slices.Clone(r.env), func(v string) bool { return strings.HasPrefix(v, "STRIPE_SECRET_KEY=") })
	}
	if err := r.receiver.Start(); err != nil {
		t.Fatal(err)
	}
	comes(t, "the receiver answers", func() bool {
		resp, err := http.Get("http://" + r.operator + "/readyz")
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
}

func (r *reader) stop(t *testing.T) {
	if r.receiver == nil {
		return
	}
	if err := syscall.Kill(-r.receiver.Process.Pid, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	_ = r.receiver.Wait() // its log says more
	r.receiver = nil
}

// run runs the shell block at an index.
func (r *reader) run(t *testing.T, i int) {
	t.Helper()
	b := r.page.blocks[i]
	text := r.replace.Replace(b.text)
	where := fmt.Sprintf("%s:%d", r.page.path, b.line)
	for line := range strings.Lines(b.text) {
		if !harmless.MatchString(line) {
			t.Errorf("%s: no test runs the block with %q; see %s", where, strings.TrimSpace(line), containerBlocks)
			return
		}
	}
	if strings.Contains(text, "curl ") {
		if _, err := exec.LookPath("curl"); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Logf("%s is not run: %v", where, err)
			return
		}
	}
	if strings.HasSuffix(text, " serve\n") {
		r.start(t, text)
		return
	}
	if strings.Contains(text, "tillhook rebuild") {
		r.stop(t)
	}
	out, err := r.shell(t, text)
	if err != nil {
		t.Errorf("%s: %v\n%s%s", where, err, text, out)
		return
	}
	switch want := r.page.output(i); {
	case want == nil:
	case want.kind == "json":
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if fault := compareJSON(r.replace.Replace(want.text), lines[len(lines)-1]); fault != "" {
			t.Errorf("%s:%d: %s; it prints\n%s", r.page.path, want.line, fault, out)
		}
	default:
		if fault := compareText(r.replace.Replace(want.text), out); fault != "" {
			t.Errorf("%s:%d: %s; it prints\n%s", r.page.path, want.line, fault, out)
		}
	}
}

// compareText compares an output with its documentation and returns a difference. The documented
// lines follow each other in the output, and may lack the end of a line. Numbers and spaces may
// differ; "…" stands for anything, and as a line of its own for any lines.
func compareText(want, got string) string {
	var pattern strings.Builder
	for line := range strings.Lines(want) {
		line = strings.TrimSpace(line)
		if line == "…" {
			pattern.WriteString(`(?s:.*)`)
			continue
		}
		if !regexp.MustCompile(outputPattern(line)).MatchString(got) {
			return fmt.Sprintf("%q is missing", line)
		}
		pattern.WriteString(`[ \t]*` + outputPattern(line) + `[^\n]*\n`)
	}
	if !regexp.MustCompile(pattern.String()).MatchString(got) {
		return "the lines stand in another order, or with others between"
	}
	return ""
}

// outputPattern matches a text whose numbers and spaces may differ. "…" stands for anything.
func outputPattern(text string) string {
	pattern := regexp.QuoteMeta(text)
	pattern = regexp.MustCompile(`[0-9]+`).ReplaceAllString(pattern, `[0-9]+`)
	pattern = regexp.MustCompile(` +`).ReplaceAllString(pattern, ` +`)
	return strings.ReplaceAll(pattern, "…", ".*")
}

// compareJSON compares an answer with its documentation and returns the first difference. Numbers
// may differ; "…" in a text, an object or a list stands for anything.
func compareJSON(want, got string) string {
	var w, g any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		return "the block is not JSON: " + err.Error()
	}
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		return "the answer is not JSON: " + err.Error()
	}
	return difference("", w, g)
}

func difference(at string, want, got any) string {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		_, more := w["…"]
		for name, value := range w {
			if have, ok := g[name]; !ok && name != "…" {
				return at + "." + name + " is not in the answer"
			} else if ok {
				if fault := difference(at+"."+name, value, have); fault != "" {
					return fault
				}
			}
		}
		for name := range g {
			if _, ok := w[name]; !ok && !more {
				return at + "." + name + " is not documented"
			}
		}
		return ""
	case []any:
		g, _ := got.([]any)
		if n := len(w); n > 0 && w[n-1] == "…" && len(g) >= n-1 {
			w, g = w[:n-1], g[:n-1]
		}
		if len(w) != len(g) {
			return fmt.Sprintf("%s has %d elements, documented are %d", at, len(g), len(w))
		}
		for i := range w {
			if fault := difference(fmt.Sprintf("%s[%d]", at, i), w[i], g[i]); fault != "" {
				return fault
			}
		}
		return ""
	case string:
		if g, ok := got.(string); ok && regexp.MustCompile("^"+outputPattern(w)+"$").MatchString(g) {
			return ""
		}
	case float64:
		if _, ok := got.(float64); ok {
			return ""
		}
	default:
		if reflect.DeepEqual(want, got) {
			return ""
		}
	}
	return fmt.Sprintf("%s is %v, documented is %v", at, got, want)
}

// Each relative link leads to a file and, if it names one, to a heading of it.
func TestLinksOfPages(t *testing.T) {
	list := pages(t)
	links := 0
	for _, p := range list {
		for _, link := range p.links() {
			if strings.Contains(link, "://") {
				continue
			}
			links++
			path, anchor, _ := strings.Cut(link, "#")
			target := p.path
			if path != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(p.path), path))
			}
			if _, err := os.Stat(filepath.Join("..", target)); err != nil {
				t.Errorf("%s: the link %s: %v", p.path, link, err)
				continue
			}
			if anchor == "" {
				continue
			}
			i := slices.IndexFunc(list, func(q *docPage) bool { return q.path == target })
			if i < 0 || !slices.Contains(list[i].anchors(), anchor) {
				t.Errorf("%s: the link %s leads to no heading of %s", p.path, link, target)
			}
		}
	}
	if links < 50 {
		t.Errorf("only %d links were found", links)
	}
}

var link = regexp.MustCompile(`\]\(([^()\s]+)\)`)

// prose returns a page without its code blocks.
func (p *docPage) prose() []string {
	text := slices.Clone(p.text)
	for _, b := range p.blocks {
		clear(text[b.line-2 : b.end])
	}
	return text
}

func (p *docPage) links() (list []string) {
	for _, m := range link.FindAllStringSubmatch(strings.Join(p.prose(), "\n"), -1) {
		list = append(list, m[1])
	}
	return list
}

// anchors returns the anchors of the headings, as GitHub makes them.
func (p *docPage) anchors() (list []string) {
	for _, line := range p.prose() {
		heading := strings.TrimLeft(line, "#")
		if heading == line || !strings.HasPrefix(heading, " ") {
			continue
		}
		list = append(list, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(heading)))
	}
	return list
}

// The references name every path of the API, every code of a health finding that a receiver
// reports, and every flag of a payment.
func TestReferencesAreComplete(t *testing.T) {
	for _, c := range []struct{ source, until, names, reference string }{
		{"operator/operator.go", "", `"(/(?:api/|healthz|readyz|metrics)[^"]*)"`, "operator/README.md"},
		{"health/codes.go", "// What only the doctor", `Code = ("\w+")`, "README.md"},
		{"../ledger/fold/payment.go", "", `Flag\w+ += ("\w+")`, "../ledger/README.md"},
	} {
		source, err := os.ReadFile(c.source)
		if err != nil {
			t.Fatal(err)
		}
		reference, err := os.ReadFile(c.reference)
		if err != nil {
			t.Fatal(err)
		}
		if c.until != "" {
			source, _, _ = bytes.Cut(source, []byte(c.until))
		}
		found := regexp.MustCompile(c.names).FindAllSubmatch(source, -1)
		if len(found) < 8 {
			t.Errorf("only %d names were found in %s", len(found), c.source)
		}
		for _, m := range found {
			if name := strings.Trim(string(m[1]), `"`); !strings.Contains(string(reference), "`"+name+"`") {
				t.Errorf("%s does not describe %q of %s", c.reference, name, c.source)
			}
		}
	}
}

// The README stays one that people read: 250 lines of 100 columns, without its tables.
func TestTheREADMEIsShort(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) > 250 {
		t.Errorf("README.md has %d lines", len(lines))
	}
	for i, line := range lines {
		if n := len([]rune(line)); n > maxComment && !strings.HasPrefix(line, "|") {
			t.Errorf("README.md:%d: %d columns", i+1, n)
		}
	}
}

// Prometheus accepts the documented alerts.
func TestDocumentedAlerts(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	text, err := os.ReadFile("../metrics/README.md")
	if err != nil {
		t.Fatal(err)
	}
	p := &docPage{path: "metrics/README.md", text: strings.Split(string(text), "\n")}
	p.readBlocks(t)
	checked := 0
	for _, b := range p.blocks {
		check := map[string]string{"scrape_configs:": "config", "groups:": "rules"}[strings.SplitN(b.text, "\n", 2)[0]]
		if check == "" {
			continue
		}
		file := filepath.Join(t.TempDir(), "file.yml")
		if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(promtool, "check", check, file).CombinedOutput(); err != nil {
			t.Errorf("%s:%d: %v\n%s", p.path, b.line, err, out)
		}
		checked++
	}
	if checked != 2 {
		t.Errorf("%d blocks were checked", checked)
	}
}
