package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
)

// recent is the name of the base that is recentCommits before HEAD, or before the first commit if
// there are fewer. In a shallow clone it is the oldest commit.
const recent = "recent"

const recentCommits = 20

// emptyTree is the id of a tree without files.
const emptyTree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

func git(args ...string) (string, error) {
	out, err := exec.Command("git", args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}

// baseCommit returns the id of the commit or tree with the name of a base.
func baseCommit(name string) (string, error) {
	if name != recent {
		return git("rev-parse", "--verify", "--end-of-options", name+"^{commit}")
	}
	commits, err := git("rev-list", "--first-parent", "--max-count="+strconv.Itoa(recentCommits+1), "HEAD")
	if err != nil {
		return "", err
	}
	if list := strings.Fields(commits); len(list) > recentCommits {
		return list[recentCommits], nil
	}
	if shallow, err := git("rev-parse", "--is-shallow-repository"); err != nil || shallow == "true" {
		list := strings.Fields(commits)
		return list[len(list)-1], err
	}
	return emptyTree, nil
}

// changesSince returns the differences between a base and the working tree, committed or not.
func changesSince(base string) (changes, error) {
	tracked, err := git("diff", "--name-only", "--no-renames", "-z", base, "--")
	if err != nil {
		return changes{}, err
	}
	untracked, err := git("ls-files", "--others", "--exclude-standard", "-z")
	if err != nil {
		return changes{}, err
	}
	edits, err := git("diff", "--unified=0", "--no-renames", "--no-color", "--no-ext-diff", base, "--", path.Dir(tablePath))
	if err != nil {
		return changes{}, err
	}
	none := func(s string) bool { return s == "" }
	return changes{
		files:   slices.DeleteFunc(strings.Split(tracked+"\x00"+untracked, "\x00"), none),
		entries: addedEntries(edits),
	}, nil
}

// addedEntries returns the names of the mutations in the added lines of a diff of the table.
func addedEntries(diff string) (names []string) {
	for line := range strings.Lines(diff) {
		literal, ok := strings.CutPrefix(line, "+\t{\"")
		if !ok {
			continue
		}
		if name, _, ok := strings.Cut(literal, "\", "); ok {
			names = append(names, name)
		}
	}
	return names
}
