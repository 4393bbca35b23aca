package config

import "strings"

// parseEnvFile parses a file of EnvironmentFile= byte for byte as systemd does, so that a command
// has the values of the service. systemd.exec(5), "EnvironmentFile="
func parseEnvFile(text string) (list []string) {
	p := envParser{text: text}
	for p.at < len(p.text) {
		c := p.next()
		switch {
		case strings.IndexByte(" \t\r\n", c) >= 0:
		case c == '#' || c == ';':
			p.comment()
		default:
			p.at--
			if name, ok := p.name(); ok {
				value := p.value()
				if isName(name) {
					list = append(list, name+"="+value)
				}
			}
		}
	}
	return list
}

type envParser struct {
	text string
	at   int
}

// next returns the next byte, or a line feed at the end.
func (p *envParser) next() byte {
	p.at++
	if p.at > len(p.text) {
		return '\n'
	}
	return p.text[p.at-1]
}

// comment skips the rest of the line. A backslash does not continue a comment; it did before
// systemd 254, but the shipped files have none.
func (p *envParser) comment() {
	for c := byte(0); c != '\n' && c != '\r'; {
		c = p.next()
	}
}

// name reads up to an equals sign. ok is false for a line without one.
func (p *envParser) name() (name string, ok bool) {
	from := p.at
	for {
		switch p.next() {
		case '=':
			return strings.TrimRight(p.text[from:p.at-1], " \t"), true
		case '\n', '\r':
			return "", false
		}
	}
}

// value reads to the end of the line outside of quotes.
func (p *envParser) value() string {
	var b strings.Builder
	kept := 0      // length without white space at the end
	begun := false // whether there was a character outside of quotes; white space before it is dropped
	for {
		switch c := p.next(); {
		case c == '\n' || c == '\r':
			if !begun {
				return b.String()
			}
			return b.String()[:kept]
		case !begun && c == '\'':
			p.quoted(&b, c)
		case !begun && c == '"':
			p.quoted(&b, c)
		case c == '\\':
			begun = true
			if c = p.next(); c != '\n' && c != '\r' {
				b.WriteByte(c)
			}
			kept = b.Len()
		case c == ' ' || c == '\t':
			if begun {
				b.WriteByte(c)
			}
		default:
			b.WriteByte(c)
			begun, kept = true, b.Len()
		}
	}
}

// quoted reads up to the closing quote. A backslash escapes only in double quotes, and only what it
// escapes there in a shell.
func (p *envParser) quoted(b *strings.Builder, quote byte) {
	for p.at < len(p.text) {
		c := p.next()
		switch {
		case c == quote:
			return
		case c == '\\' && quote == '"':
			switch escaped := p.next(); escaped {
			case '"', '\\', '`', '$':
				b.WriteByte(escaped)
			case '\n':
			default:
				b.WriteByte('\\')
				b.WriteByte(escaped)
			}
		default:
			b.WriteByte(c)
		}
	}
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
