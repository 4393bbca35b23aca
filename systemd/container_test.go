package systemd_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// rootsVariable names a directory with one Debian root per release, as mmdebstrap makes them.
const rootsVariable = "CONTAINER_ROOTS"

// require skips the test if this machine cannot run it. In CI that is a failure.
func require(t *testing.T, tools ...string) {
	t.Helper()
	why := ""
	if os.Geteuid() != 0 {
		why = "needs root"
	}
	for _, name := range tools {
		if _, err := exec.LookPath(name); err != nil {
			why = err.Error()
		}
	}
	if os.Getenv(rootsVariable) == "" {
		why = rootsVariable + " is not set"
	}
	switch {
	case why != "" && os.Getenv("CI") == "true":
		t.Fatal(why)
	case why != "":
		t.Skip(why)
	}
}

// container is a Debian that boots systemd as process 1, runs one script and is deleted.
type container struct {
	debian string
	dir    string // mounted at /ct
	binds  []string
}

// run boots the container, runs a script of testdata/container as root and returns its output.
func (c *container) run(t *testing.T, script string) string {
	t.Helper()
	root := filepath.Join(os.Getenv(rootsVariable), c.debian)
	scripts := filepath.Join(c.dir, "scripts")
	copyFiles(t, "../testdata/container/*", scripts)
	unit := filepath.Join(c.dir, "script.service")
	text := "[Unit]\nAfter=basic.target\n[Service]\nType=oneshot\nTimeoutStartSec=420\nStandardOutput=truncate:/ct/said\nStandardError=inherit\n" +
		"ExecStart=/bin/bash -c 'PATH=$PATH:/tools bash -eux /scripts/" + script + "; systemctl exit $?'\n"
	if err := os.WriteFile(unit, []byte(strings.ReplaceAll(text, "$", "$$")), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	args := []string{"-q", "--register=no", "--keep-unit", "-D", root, "--volatile=overlay", "--private-network", "--boot", "--console=pipe",
		"--bind=" + c.dir + ":/ct", "--bind-ro=" + scripts + ":/scripts", "--bind-ro=" + self + ":/tools/sender", "--bind-ro=" + unit + ":/etc/systemd/system/script.service"}
	for _, bind := range c.binds {
		args = append(args, "--bind-ro="+bind)
	}
	machine := exec.CommandContext(ctx, "systemd-nspawn", append(args, "systemd.wants=script.service")...)
	machine.Cancel = func() error { return machine.Process.Signal(os.Interrupt) }
	machine.WaitDelay = 10 * time.Second
	machine.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	console, err := machine.CombinedOutput()
	said, readErr := os.ReadFile(filepath.Join(c.dir, "said"))
	if err != nil || readErr != nil {
		t.Fatalf("%s in %s: %v\n%s\n%s", script, c.debian, errors.Join(err, readErr), said, bytes.TrimSpace(console))
	}
	return string(said)
}

// copyFiles copies files. The go command caches by what the test itself reads, so files that only
// the script reads are read here.
func copyFiles(t *testing.T, pattern, to string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %q, %v", pattern, files, err)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// documentedBlocks returns the shell blocks of the documentation that testdata/container/blocks
// lists, by the name that the list gives them. A block is found by words in its first line.
func documentedBlocks(t *testing.T) map[string]string {
	t.Helper()
	list, err := os.ReadFile("../testdata/container/blocks")
	if err != nil {
		t.Fatal(err)
	}
	var pages []string
	for _, pattern := range []string{"../README.md", "../*/README.md", "../*/*/README.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, files...)
	}
	var found [][]string
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, shellBlock.FindAllStringSubmatch(string(text), -1)...)
	}
	blocks := map[string]string{}
	for line := range strings.Lines(string(list)) {
		name, words, _ := strings.Cut(strings.TrimSpace(line), "\t")
		for _, m := range found {
			if first, _, _ := strings.Cut(m[1], "\n"); strings.Contains(first, words) {
				blocks[name] += m[1]
			}
		}
		if blocks[name] == "" {
			t.Fatalf("no page has a block with %q in its first line", words)
		}
	}
	return blocks
}

var shellBlock = regexp.MustCompile("(?s)\n```sh\n(.*?)```")

// writeACMEServer writes the files of an ACME server: its own certificate and its configuration.
func writeACMEServer(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "an authority"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"key.pem":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"pebble.json": []byte(`{"pebble": {"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000", "certificate": "/ct/pebble/cert.pem",
			"privateKey": "/ct/pebble/key.pem", "httpPort": 80, "tlsPort": 443, "retryAfter": {"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
			"profiles": {"default": {"description": "the only one", "validityPeriod": 7776000}}}}`),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A service from an empty machine to stored events, with only the documented commands, and what can
// happen to it afterwards.
func TestLifeOfAService(t *testing.T) {
	require(t, "systemd-nspawn", "pebble", "pebble-challtestsrv", "dpkg-deb")
	t.Parallel()
	first, second := buildPackages(t, "v0.1.0", "amd64"), buildPackages(t, "v0.2.0", "amd64")
	for _, debian := range []string{"bookworm", "trixie"} {
		t.Run(debian, func(t *testing.T) { // not parallel: their units would share this machine's control groups
			c := &container{debian: debian, dir: t.TempDir()}
			for _, tool := range []string{"pebble", "pebble-challtestsrv"} {
				path, err := exec.LookPath(tool)
				if err != nil {
					t.Fatal(err)
				}
				c.binds = append(c.binds, path+":/tools/"+tool)
			}
			c.binds = append(c.binds, first+":/packages/first", second+":/packages/second")
			for name, text := range documentedBlocks(t) {
				text = strings.ReplaceAll(text, "VERSION", "0.1.0")
				if err := os.WriteFile(filepath.Join(c.dir, name+".sh"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			writeACMEServer(t, filepath.Join(c.dir, "pebble"))
			for line := range strings.Lines(c.run(t, "life.sh")) {
				if result, ok := strings.CutPrefix(line, "== "); ok {
					t.Log(strings.TrimSpace(result))
				}
			}
		})
	}
}
