package config

import "strings"

// parseEnvFile parses a file of EnvironmentFile= byte for byte as systemd does, so that a command
// has the values of the service. systemd.exec(5), "EnvironmentFile="
func parseEnvFile(text string) (list []string) {
	in := &envReader{text}
	for in.rest != "" {
		switch c := in.next(); {
		case strings.IndexByte(" \t\r\n", c) >= 0:
		case c == '#' || c == ';': // a backslash does not continue a comment; before systemd 254 it did
			for c != '\n' && c != '\r' {
				c = in.next()
			}
		default:
			name := []byte{c}
			for c != '=' && c != '\n' && c != '\r' {
				c = in.next()
				name = append(name, c)
			}
			if c != '=' {
				continue
			}
			value := in.value()
			if name := strings.TrimRight(string(name[:len(name)-1]), " \t"); isName(name) {
				list = append(list, name+"="+value)
			}
		}
	}
	return list
}

type envReader struct{ rest string }

// next returns the next byte, or a line feed at the end.
func (in *envReader) next() byte {
	if in.rest == "" {
		return '\n'
	}
	c := in.rest[0]
	in.rest = in.rest[1:]
	return c
}

// value reads to the end of the line that is outside of quotes.
func (in *envReader) value() string {
	var b strings.Builder
	quote := byte(0)
	kept := 0      // length without white space at the end
	begun := false // whether there was a character outside of quotes; white space before it is dropped
	for in.rest != "" || quote == 0 {
		switch c := in.next(); {
		case quote != 0 && c == quote:
			quote = 0
		case quote == '"' && c == '\\': // escapes only what it escapes there in a shell
			if c = in.next(); strings.IndexByte("\"\\`$\n", c) < 0 {
				b.WriteByte('\\')
			}
			if c != '\n' {
				b.WriteByte(c)
			}
		case quote != 0:
			b.WriteByte(c)
		case c == '\n' || c == '\r':
			if begun {
				return b.String()[:kept]
			}
			return b.String()
		case !begun && (c == '\'' || c == '"'):
			quote = c
		case c == '\\':
			if c = in.next(); c != '\n' && c != '\r' {
				b.WriteByte(c)
			}
			begun, kept = true, b.Len()
		case c != ' ' && c != '\t':
			b.WriteByte(c)
			begun, kept = true, b.Len()
		case begun:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// isName reports whether s is a valid name of a variable.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
