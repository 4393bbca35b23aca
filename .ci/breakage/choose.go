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
	files   []string // paths in the repository
	entries []string // names of mutations that were added to the table or edited in it
}

// Reasons to choose a mutation, the strongest first.
const (
	edited = iota // the mutation is new, or its entry was edited
	inSource
	inTests
	byCommit
)

var reasons = [...]string{
	edited:   "whose entry changed",
	inSource: "whose source file changed",
	inTests:  "whose test package changed",
	byCommit: "by the commit's id",
}

// choice is a mutation that was chosen, and why.
type choice struct {
	mutation
	reason int
	rank   uint64
}

// choose returns at most most mutations. Up to two thirds of them are ones that the changes touch,
// and the rest are taken from all others. Within a reason the order is that of a hash of the
// commit's id and the mutation's name. So the choice for a commit is the same on every machine and
// on every day, and over many commits every mutation is chosen.
func choose(table []mutation, c changes, commit string, most int) []choice {
	var all []choice
	for _, m := range table {
		all = append(all, choice{m, c.touches(m), rank(commit, m.name)})
	}
	slices.SortFunc(all, func(a, b choice) int { return cmp.Or(cmp.Compare(a.reason, b.reason), cmp.Compare(a.rank, b.rank)) })
	var chosen []choice
	for len(all) > 0 && all[0].reason < byCommit && len(chosen) < most-most/3 {
		chosen, all = append(chosen, all[0]), all[1:]
	}
	slices.SortFunc(all, func(a, b choice) int { return cmp.Compare(a.rank, b.rank) })
	for _, c := range all[:min(len(all), most-len(chosen))] {
		if c.reason != edited {
			c.reason = byCommit
		}
		chosen = append(chosen, c)
	}
	return chosen
}

// touches returns the strongest reason to choose a mutation.
func (c changes) touches(m mutation) int {
	if slices.Contains(c.entries, m.name) {
		return edited
	}
	if slices.Contains(c.files, m.file) {
		return inSource
	}
	pkg := path.Clean(m.pkg)
	if slices.ContainsFunc(c.files, func(file string) bool {
		return path.Dir(file) == pkg || pkg == "." && strings.HasPrefix(file, "testdata/script/")
	}) {
		return inTests
	}
	return byCommit
}

// rank orders mutations, in a different way for each commit.
func rank(commit, name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(commit + " " + name))
	x := h.Sum64()
	// The high bits of FNV depend little on the last characters: mix them with the finalizer of
	// MurmurHash3.
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
