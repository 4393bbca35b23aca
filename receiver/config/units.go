package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// unitFolders are where systemd looks for units, below the root; the first match counts.
// systemd.unit(5), "Unit File Load Path"
var unitFolders = [...]string{
	"etc/systemd/system.control", "run/systemd/system.control", "run/systemd/transient", "run/systemd/generator.early",
	"etc/systemd/system", "etc/systemd/system.attached", "run/systemd/system", "run/systemd/system.attached", "run/systemd/generator",
	"usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system", "run/systemd/generator.late",
}

// unit is the content of a unit's files.
type unit struct {
	name     string
	settings []assignment // in the order in which systemd reads them
	fault    error        // why this user cannot read some of them
}

type assignment struct{ section, key, value string }

// readUnit reads a unit with its drop-ins, as systemd would after a daemon-reload. The error is an
// [fs.ErrNotExist] if there is no such unit, or it is masked.
func readUnit(root, name string) (*unit, error) {
	u := &unit{name: name}
	text, err := u.fragment(root)
	if err != nil {
		return nil, err
	}
	u.settings = parseUnit(text)
	dropIns, err := u.dropIns(root)
	if err != nil {
		return nil, err
	}
	for _, path := range dropIns {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrPermission) {
			u.fault = errors.Join(u.fault, fmt.Errorf("read a drop-in of %s: %w; run this as root", name, err))
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read a drop-in of %s: %w", name, err)
		}
		u.settings = append(u.settings, parseUnit(string(text))...)
	}
	return u, nil
}

// fragment returns the text of the unit's own file, or of the template that it is an instance of.
func (u *unit) fragment(root string) (string, error) {
	for _, name := range slices.Compact([]string{u.name, template(u.name)}) {
		for _, folder := range unitFolders {
			text, err := os.ReadFile(filepath.Join(root, folder, name))
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return "", fmt.Errorf("read the unit %s: %w", name, err)
			case len(text) == 0: // a symbolic link to /dev/null
				return "", fmt.Errorf("the unit %s is masked: %w", name, fs.ErrNotExist)
			default:
				return string(text), nil
			}
		}
	}
	return "", fmt.Errorf("there is no unit %s: %w", u.name, fs.ErrNotExist)
}

// dropIns lists the unit's drop-in files, ordered by name across all folders. Of two with the same
// name, the one in the more specific folder counts.
func (u *unit) dropIns(root string) ([]string, error) {
	kind := filepath.Ext(u.name)
	stem, _, _ := strings.Cut(strings.TrimSuffix(u.name, kind), "@")
	names := []string{u.name + ".d", template(u.name) + ".d"}
	for at := strings.LastIndexByte(stem, '-'); at > 0; at = strings.LastIndexByte(stem[:at], '-') {
		names = append(names, stem[:at+1]+kind+".d")
	}
	found := map[string]string{} // by the file's name
	for _, name := range append(names, kind[1:]+".d") {
		for _, folder := range unitFolders {
			entries, err := os.ReadDir(filepath.Join(root, folder, name))
			switch {
			case errors.Is(err, fs.ErrPermission):
				u.fault = errors.Join(u.fault, fmt.Errorf("look for the drop-ins of %s: %w; run this as root", u.name, err))
			case err != nil && !errors.Is(err, fs.ErrNotExist):
				return nil, fmt.Errorf("look for the drop-ins of %s: %w", u.name, err)
			}
			for _, e := range entries {
				if _, known := found[e.Name()]; !known && strings.HasSuffix(e.Name(), ".conf") {
					found[e.Name()] = filepath.Join(root, folder, name, e.Name())
				}
			}
		}
	}
	var paths []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		paths = append(paths, found[name])
	}
	return paths, nil
}

// template returns the name of an instance's template, or any other name unchanged.
func template(name string) string {
	prefix, rest, ok := strings.Cut(name, "@")
	if !ok {
		return name
	}
	return prefix + "@" + filepath.Ext(rest)
}

// parseUnit parses the syntax of systemd.syntax(7).
func parseUnit(text string) (list []assignment) {
	section, begun := "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if first := strings.TrimLeft(line, " \t"); strings.HasPrefix(first, "#") || strings.HasPrefix(first, ";") {
			continue // also within a continued line
		}
		if backslashes := len(line) - len(strings.TrimRight(line, `\`)); backslashes%2 == 1 {
			begun += line[:len(line)-1] + " "
			continue
		}
		line, begun = strings.TrimSpace(begun+line), ""
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = line[1 : len(line)-1]
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok {
			list = append(list, assignment{section, strings.TrimSpace(key), strings.TrimSpace(value)})
		}
	}
	return list
}

// all returns the values of a setting that may be given several times; an empty value discards
// those before it.
func (u *unit) all(section, key string) (values []string) {
	for _, s := range u.settings {
		switch {
		case s.section != section || s.key != key:
		case s.value == "":
			values = nil
		default:
			values = append(values, s.value)
		}
	}
	return values
}

// last returns the last value of a setting, or "".
func (u *unit) last(section, key string) string {
	values := u.all(section, key)
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// credentialsDir returns the folder of a running unit's credentials.
func (u *unit) credentialsDir() string { return "/run/credentials/" + u.name }

// expand replaces specifiers; unknown ones stay. systemd.unit(5), "Specifiers"
func (u *unit) expand(value string) string {
	if !strings.Contains(value, "%") {
		return value
	}
	full := strings.TrimSuffix(u.name, filepath.Ext(u.name))
	prefix, instance, _ := strings.Cut(full, "@")
	host, _ := os.Hostname() // on an error %H is empty
	pairs := []string{"%%", "%", "%i", instance, "%I", unescapePath(instance), "%n", u.name, "%N", full, "%p", prefix, "%P", unescapePath(prefix),
		"%j", prefix[strings.LastIndexByte(prefix, '-')+1:], "%d", u.credentialsDir(), "%t", "/run", "%S", "/var/lib", "%C", "/var/cache",
		"%L", "/var/log", "%E", "/etc", "%T", "/tmp", "%V", "/var/tmp", "%h", "/root", "%u", "root", "%U", "0", "%H", host}
	return strings.NewReplacer(pairs...).Replace(value)
}

// unescapePath reverses systemd-escape(1): a dash becomes a slash.
func unescapePath(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		if s[i] == '-' {
			b.WriteByte('/')
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// words splits a value as systemd does: at white space outside of quotes, with C escapes.
// systemd.syntax(7), "Quoting"
func words(s string) (list []string) {
	var word strings.Builder
	quote, begun := byte(0), false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			char, n := unescape(s[i:])
			word.WriteString(char)
			i, begun = i+n-1, true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, begun = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if begun {
				list = append(list, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if begun {
		list = append(list, word.String())
	}
	return list
}

// unescapeAll replaces all C escapes in s.
func unescapeAll(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			i++
			continue
		}
		char, n := unescape(s[i:])
		b.WriteString(char)
		i += n
	}
	return b.String()
}

// unescape decodes the escape at the beginning of s and returns its length in bytes. An unknown
// escape stays unchanged.
func unescape(s string) (char string, length int) {
	if len(s) < 2 {
		return s, len(s)
	}
	if at := strings.IndexByte(`abfnrtvs\"'`, s[1]); at >= 0 {
		return string("\a\b\f\n\r\t\v \\\"'"[at]), 2
	}
	digits, base, from := 3, 8, 1
	if s[1] == 'x' {
		digits, base, from = 2, 16, 2
	}
	if len(s) >= from+digits {
		if n, err := strconv.ParseUint(s[from:from+digits], base, 8); err == nil {
			return string([]byte{byte(n)}), from + digits
		}
	}
	return s[:2], 2
}
