package app_test

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"tillhook/receiver/app"
)

func TestTheControlGroupsMemory(t *testing.T) {
	root := t.TempDir()
	self := filepath.Join(root, "self")
	for path, text := range map[string]string{"self": "1:name=x:/other\n0::/system.slice/tillhook.service\n", "memory.max": "9000\n",
		"system.slice/memory.max": "max\n", "system.slice/tillhook.service/memory.max": "1000\n"} {
		file := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n := app.GroupMemory(self, root); n != 1000 {
		t.Errorf("the least limit is %d, want 1000", n)
	}
	if n := app.GroupMemory(self, filepath.Join(root, "nothing")); n != math.MaxInt64 {
		t.Errorf("without a control group the limit is %d", n)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOMEMLIMIT", "")
	if app.LimitMemory(); debug.SetMemoryLimit(-1) > 200<<20 {
		t.Errorf("the limit is %d", debug.SetMemoryLimit(-1))
	}
	debug.SetMemoryLimit(before)
	t.Setenv("GOMEMLIMIT", "1GiB") // the runtime has read it at its start
	if app.LimitMemory(); debug.SetMemoryLimit(-1) != before {
		t.Errorf("a limit that was set is overridden: %d", debug.SetMemoryLimit(-1))
	}
}
