package main

import (
	"cmp"
	"hash/fnv"
	"path"
	"slices"
	"strings"
)

// changes are the differences between a base commit and the sources.
type changes struct {
	files   []string // by their path in the repository
	entries []string // names of entries that were added to the table or edited in it
}

// Reasons to choose an entry, the strongest first.
const (
	edited = iota // the entry is new, or its text was edited
	inSource
	inTests
	byCommit
)

var reasons = [...]string{
	edited:   "whose entry changed",
	inSource: "whose source file changed",
	inTests:  "whose test package changed",
	byCommit: "by the commit's turn",
}

// choice is an entry that is to run, and why.
type choice struct {
	broken
	reason int
}

// choose returns at most most entries. Two thirds of them go to entries that the changes touch, as
// far as there are so many, and the rest to any others. Within a reason the order is that of a hash
// of the commit's id and the entry's name: the same commit always gets the same choice, on every
// machine and on every day, and over different commits every entry gets its turn.
func choose(table []broken, c changes, commit string, most int) []choice {
	var all []choice
	for _, b := range table {
		all = append(all, choice{b, c.touches(b)})
	}
	slices.SortFunc(all, func(a, b choice) int {
		return cmp.Or(cmp.Compare(a.reason, b.reason), cmp.Compare(turn(commit, a.name), turn(commit, b.name)))
	})
	var chosen []choice
	for len(all) > 0 && all[0].reason < byCommit && len(chosen) < most-most/3 {
		chosen, all = append(chosen, all[0]), all[1:]
	}
	slices.SortFunc(all, func(a, b choice) int { return cmp.Compare(turn(commit, a.name), turn(commit, b.name)) })
	for _, c := range all[:min(len(all), most-len(chosen))] {
		if c.reason != edited {
			c.reason = byCommit
		}
		chosen = append(chosen, c)
	}
	return chosen
}

// touches returns the strongest reason for an entry.
func (c changes) touches(b broken) int {
	if slices.Contains(c.entries, b.name) {
		return edited
	}
	if slices.Contains(c.files, b.file) {
		return inSource
	}
	pkg := path.Clean(b.pkg)
	if slices.ContainsFunc(c.files, func(file string) bool {
		return path.Dir(file) == pkg || pkg == "." && strings.HasPrefix(file, "testdata/script/")
	}) {
		return inTests
	}
	return byCommit
}

// turn orders the entries, in another way for each commit.
func turn(commit, name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(commit + " " + name))
	x := h.Sum64()
	// FNV's high bits depend little on the last characters: mix them (the finaliser of
	// MurmurHash3).
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
