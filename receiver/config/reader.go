package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Fault is one error of a configuration.
type Fault struct {
	Name    string // of the variable
	Problem string // such as "is not set"; never a value
	Fix     string // what to do about it
}

func (f Fault) String() string { return f.Name + " " + f.Problem + ": " + f.Fix }

// Faults are all errors of a configuration: first unknown variables, then those of the settings in
// the order of the table.
type Faults []Fault

func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	if len(lines) == 1 {
		return "the configuration has an error: " + lines[0]
	}
	return fmt.Sprintf("the configuration has %d errors:\n  %s", len(lines), strings.Join(lines, "\n  "))
}

// reader parses settings into config and collects what is wrong with them.
type reader struct {
	values  map[string]string // variables that are set
	systemd systemd
	config  Config
	faults  Faults

	keyMode  string                // of a valid API key
	service  map[string]credential // credentials of the service, for a command; nil in the service itself
	replaced []string              // secrets of the service that the caller replaces
	denied   error                 // why this user cannot read a secret of the service
}

// read reads the settings of these names, or all settings, in the order of the table.
func (r *reader) read(names ...string) {
	if len(names) == 0 {
		r.refuseUnknown()
	}
	for s := range settings() {
		if len(names) == 0 || slices.Contains(names, s.name) {
			s.read(r, s.name, r.text(s))
		}
	}
}

// text returns the trimmed value of a setting or its default. A secret has none.
func (r *reader) text(s *setting) string {
	value, ok := r.values[s.name]
	switch {
	case s.secret:
		return ""
	case !ok:
		return s.preset
	}
	return r.trim(s.name, value)
}

// trim removes white space and quotes around a value, with a warning.
func (r *reader) trim(name, value string) string {
	trimmed := trim(value)
	if trimmed != value {
		r.warn("%s had white space or quotes around it; they were removed", name)
	}
	return trimmed
}

func (r *reader) fault(name, problem, fix string) {
	r.faults = append(r.faults, Fault{name, problem, fix})
}

func (r *reader) warn(format string, args ...any) {
	r.config.Warnings = append(r.config.Warnings, fmt.Sprintf(format, args...))
}

func (r *reader) hasFault(name string) bool {
	return slices.ContainsFunc(r.faults, func(f Fault) bool { return strings.HasPrefix(f.Name, name) })
}

// err returns what is wrong: first what another user could read.
func (r *reader) err() error {
	switch {
	case r.denied != nil:
		return fmt.Errorf("read the secrets of the service: %w; run this as root", r.denied)
	case len(r.faults) > 0:
		return r.faults
	}
	return nil
}

// refuseUnknown adds an error for each variable with our prefix that is not declared. Otherwise a
// misspelt setting would silently not apply.
func (r *reader) refuseUnknown() {
	var known []string
	for s := range settings() {
		known = append(known, s.name)
		if s.secret {
			known = append(known, s.name+"_FILE")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.values)) {
		switch {
		case !strings.HasPrefix(name, "TILLHOOK_"), slices.Contains(known, name):
		case strings.HasPrefix(name, "TILLHOOK_RELAY_"):
			r.fault(name, "configures the relay", "this version does not forward events; unset it")
		default:
			nearest := slices.MinFunc(known, func(a, b string) int { return distance(name, a) - distance(name, b) })
			r.fault(name, "is not a variable of tillhook", "did you mean "+nearest+"? Correct the name or unset it")
		}
	}
}

// distance returns how many letters must be inserted, deleted or replaced to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
