package systemd_test

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// units copies the units to a temporary directory for systemd-analyze, with this test binary as the
// program.
func units(t *testing.T) (dir string) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	found, err := filepath.Glob("tillhook*.*")
	if err != nil || len(found) != 4 {
		t.Fatalf("the units are %q, %v", found, err)
	}
	for _, file := range found {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.ReplaceAll(string(text), "ExecStart=/usr/bin/tillhook", "ExecStart="+self))
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// systemd accepts every line of the units. It only prints a warning for an unknown key.
func TestUnitsAreValid(t *testing.T) {
	dir := units(t)
	for _, unit := range []string{"tillhook.service", "tillhook.socket", "tillhook-operator.socket", "tillhook-http.socket"} {
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", filepath.Join(dir, unit)).CombinedOutput()
		if err != nil || strings.Contains(string(out), dir) {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}

// The exposure of the service is at most 1.2 of 10 by systemd's own measure.
func TestTheServiceIsConfined(t *testing.T) {
	dir := units(t)
	out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=12", filepath.Join(dir, "tillhook.service")).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// buildPackages builds the packages of a version and returns their directory.
func buildPackages(t *testing.T, version, architectures string, env ...string) (dir string) {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir = t.TempDir()
	for _, pattern := range []string{"deb/[bcplst]*", "deb/examples/*", "tillhook*"} {
		copyFiles(t, pattern, t.TempDir())
	}
	build := exec.Command("sh", "-c", "umask 077; exec deb/build "+version+" "+dir)
	build.Env = append(append(os.Environ(), "ARCHITECTURES="+architectures), env...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// The build prints its help, and refuses an invalid version before it builds anything.
func TestBuildRefusesOtherThanVersions(t *testing.T) {
	copyFiles(t, "deb/build", t.TempDir())
	for _, c := range []struct {
		args   []string
		status int
	}{{[]string{"--help"}, 0}, {[]string{"-h"}, 0}, {[]string{"--version"}, 2}, {[]string{"-v"}, 2}, {[]string{"latest"}, 2}, {[]string{"v1.2.3 --x"}, 2}, {[]string{"v1/2"}, 2},
		{[]string{""}, 2}, {[]string{"v1.2.3", "-o"}, 2}, {[]string{"v1.2.3", "a", "b"}, 2}} {
		dir := t.TempDir()
		build := exec.Command("deb/build", c.args...)
		build.Env = append(os.Environ(), "TMPDIR="+dir, "PATH="+dir+":/usr/bin:/bin") // no go there
		out, err := build.CombinedOutput()
		if build.ProcessState == nil || build.ProcessState.ExitCode() != c.status || !strings.Contains(string(out), "systemd/deb/build [VERSION [FOLDER]]") {
			t.Errorf("%q: %v\n%s", c.args, err, out)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%q left %v, %v", c.args, left, err)
		}
	}
}

// Builds are reproducible, and lintian has no complaints.
func TestPackages(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("lintian"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	one, other := buildPackages(t, "v1.2.3", "amd64 arm64", "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8"), buildPackages(t, "v1.2.3", "amd64", "TZ=America/New_York", "LC_ALL=POSIX")
	for _, name := range []string{"tillhook_1.2.3_amd64.deb", "tillhook-v1.2.3-linux-amd64.tar.gz"} {
		if out, err := exec.Command("cmp", filepath.Join(one, name), filepath.Join(other, name)).CombinedOutput(); err != nil {
			t.Errorf("two builds differ: %v %s", err, out)
		}
	}
	for _, arch := range []string{"amd64", "arm64"} {
		deb := filepath.Join(one, "tillhook_1.2.3_"+arch+".deb")
		if out, err := exec.Command("lintian", "--no-cfg", "--allow-root", "--fail-on", "error,warning", deb).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// Purging deletes every file that a receiver makes in its directory, and no backup. A leftover note
// about a missing ledger would keep a new installation from starting.
func TestPurgeDeletesWhatAReceiverMakes(t *testing.T) {
	script, err := os.ReadFile(filepath.Join(cmp.Or(os.Getenv("SCRIPTS"), "deb"), "postrm")) // like deb/build
	if err != nil {
		t.Fatal(err)
	}
	deletes := regexp.MustCompile(`(?m)^\t\trm -rf "\$dir"/(?:.*\\\n)*.*$`).FindString(string(script))
	dir := t.TempDir()
	for _, name := range []string{"ledger.db", "ledger.db.new-1", "ledger.db.missing", "ledger-20260401T000000.000Z.db.old",
		"ledger-20260401T000000.000Z.db.deleted", "operator.sock", "tillhook-test-0123456789ab-20260401T000000Z.db"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("sh", "-c", "dir=$1\n"+deletes, "sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "tillhook-test-0123456789ab-20260401T000000Z.db" {
		t.Errorf("these are left: %q, %v", left, err)
	}
}
