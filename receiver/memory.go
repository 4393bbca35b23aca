package receiver

import (
	"bufio"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

const (
	// heapGrowth is how much the heap may grow before it is collected, in percent of what is in
	// use: that is a few megabytes, and collecting at twice as much, as Go does, would take a tenth
	// of the time under load.
	heapGrowth = 400
	// memoryLimit is what the heap and the stacks of a receiver may take before they are collected
	// however little they have grown, in bytes. What is bounded before a signature (connections.go,
	// body.go) and what the ledger has in memory are well below it.
	memoryLimit = 192 << 20
)

// TuneCollector sets how often garbage is collected. GOGC in the environment wins.
func TuneCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}

// BoundMemory sets the memory limit of a process that receives, or three quarters of what its
// control group may have if that is less. GOMEMLIMIT in the environment wins.
func BoundMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(min(memoryLimit, groupMemory("/proc/self/cgroup", "/sys/fs/cgroup")/4*3))
	}
}

// groupMemory returns the least memory.max of this process's control group and those around it, or
// math.MaxInt64 where there is none or it cannot be read. cgroups(7), version 2.
func groupMemory(self, root string) int64 {
	least := int64(math.MaxInt64)
	f, err := os.Open(self)
	if err != nil {
		return least
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		group, ok := strings.CutPrefix(lines.Text(), "0::/")
		if !ok {
			continue
		}
		for dir := filepath.Join(root, group); strings.HasPrefix(dir, root); dir = filepath.Dir(dir) {
			text, err := os.ReadFile(filepath.Join(dir, "memory.max"))
			if err != nil {
				continue
			}
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // else it is "max"
				least = min(least, n)
			}
		}
	}
	return least
}
