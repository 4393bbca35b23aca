package app

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
	// heapGrowth is the growth of the heap between two collections, in percent. The live heap is a
	// few megabytes, and Go's default of 100 would spend a tenth of the processor time under load.
	heapGrowth = 400
	// memoryLimit is the size of heap and stacks above which memory is collected however little it
	// has grown, in bytes. The limits on unverified requests and the ledger's memory are well
	// below.
	memoryLimit = 192 << 20
)

// tuneCollector sets how often memory is collected, unless GOGC is set.
func tuneCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}

// limitMemory sets the memory limit of a process that receives, or three quarters of its control
// group's limit if that is less, unless GOMEMLIMIT is set.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(min(memoryLimit, groupMemory("/proc/self/cgroup", "/sys/fs/cgroup")/4*3))
	}
}

// groupMemory returns the least memory.max of this process's control group and its parents, or
// math.MaxInt64 if no limit is set or it cannot be read. See cgroups(7), version 2.
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
