package config

import "strings"

// parseEnvFile reads the syntax of a file that EnvironmentFile= names, byte for byte as systemd
// does, so that a command works with the values that the service has. systemd.exec(5),
// "EnvironmentFile="
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

// next returns the next byte, and a line feed at the end.
func (p *envParser) next() byte {
	p.at++
	if p.at > len(p.text) {
		return '\n'
	}
	return p.text[p.at-1]
}

// comment skips the rest of the line. A backslash does not make it longer: systemd before 254 let
// it do that, and the shipped files have none.
func (p *envParser) comment() {
	for c := byte(0); c != '\n' && c != '\r'; {
		c = p.next()
	}
}

// name reads up to an equals sign. A line without one is none of ours.
func (p *envParser) name() (string, bool) {
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
	kept := 0      // bytes that white space at the end does not count to
	begun := false // outside of quotes; white space before that is left out
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

// quoted reads up to the closing quote. Only in double quotes a backslash escapes, and only what a
// shell would escape there.
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

// isName reports whether a variable can have this name.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
