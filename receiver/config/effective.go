package config

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// Value is the effective value of a setting.
type Value struct {
	Name   string
	Value  string // a secret is masked; empty if there is no value, or an invalid one
	Source Source
	From   string // the file, unit or variable that it comes from, if Source has any
	Secret bool
	Valid  bool
}

// Source is the kind of place that a value comes from.
type Source string

// Sources of values.
const (
	FromNowhere     Source = "unset"
	FromDefault     Source = "default"
	FromEnvironment Source = "environment"
	FromService     Source = "service"    // a file or unit of the service, for a command
	FromFile        Source = "file"       // NAME_FILE
	FromCredential  Source = "credential" // of systemd
	FromSetting     Source = "derived"    // from another setting
)

// String returns the source in words, for "from %s".
func (s Source) String() string {
	words := map[Source]string{FromFile: "a file", FromCredential: "a credential", FromEnvironment: "the environment", FromService: "the environment"}
	return cmp.Or(words[s], string(s))
}

// Reread says what a reload did with a secret from this source.
func (s Source) Reread() string {
	switch s {
	case FromFile:
		return "read again"
	case FromNowhere:
		return "none"
	}
	return "from " + s.String() + ": a change needs a restart"
}

// Values returns the effective value of every setting, in the order of the table. The error is that
// of [Environment.Receiver]; the values are nil only if the service's settings are unknown.
func (e *Environment) Values() ([]Value, error) {
	r, err := e.read()
	if err != nil {
		return nil, err
	}
	c := &r.config
	var values []Value
	for s := range settings() {
		v := Value{Name: s.name, Value: trim(r.values[s.name]), Source: FromNowhere, Secret: s.secret, Valid: !r.hasFault(s.name)}
		switch {
		case s.name == webhookSecretName:
			v.Source, v.From = e.secretSource(s.name, c.WebhookSecretFrom)
			v.Value = mask(c.WebhookSecrets...)
		case s.name == secretKeyName:
			v.Source, v.From = e.secretSource(s.name, c.SecretKeyFrom)
			v.Value = mask(c.SecretKey)
		case v.Value != "":
			v.Source, v.From = e.source(s.name)
		case s.preset != "":
			v.Source, v.Value = FromDefault, s.preset
		case s.name == modeName && r.keyMode != "":
			v.Source, v.From, v.Value = FromSetting, secretKeyName, r.keyMode
		case s.name == publicURLName && c.Endpoint() != "":
			v.Source, v.From, v.Value = FromSetting, domainName, c.Endpoint()
		case s.name == dataDirName:
			v.Source, v.From, v.Value = folderSource(e.systemd.State, "STATE_DIRECTORY", c.DataDir)
		case s.name == operatorSocketName:
			v.Source, v.From, v.Value = folderSource(e.systemd.Runtime, "RUNTIME_DIRECTORY", c.OperatorSocket)
		}
		if listen, unit := e.Listens(); s.name == listenName && unit != "" && e.own[listenName] == "" {
			v.Source, v.From, v.Value = FromService, unit, listen
		}
		if !v.Valid {
			v.Value = ""
		}
		if !s.secret { // it may be a secret in the wrong variable
			v.Value = secretPattern.ReplaceAllString(v.Value, "$1…")
		}
		values = append(values, v)
	}
	return values, r.err()
}

// source returns where the value of a variable comes from.
func (e *Environment) source(name string) (Source, string) {
	if e.Service == nil || e.own[name] != "" {
		return FromEnvironment, ""
	}
	return FromService, cmp.Or(e.Service.origins[name], e.Service.Unit)
}

func folderSource(passed []string, variable, path string) (source Source, from, value string) {
	if len(passed) > 0 {
		return FromSetting, variable, path
	}
	return FromDefault, "", path
}

// secretSource returns where a secret comes from, valid or not.
func (e *Environment) secretSource(name string, origin Source) (Source, string) {
	id := strings.ToLower(name)
	switch file := e.values[name+"_FILE"]; {
	case file != "":
		return FromFile, file
	case e.values[name] != "":
		return e.source(name)
	case origin != FromCredential:
		return FromNowhere, ""
	case e.Service == nil || slices.Contains(e.replaced, name):
		return FromCredential, id
	}
	return FromCredential, cmp.Or(e.Service.credentials[id].path, e.Service.Unit)
}

// secretPattern matches the public prefix of a secret and the rest of it.
var secretPattern = regexp.MustCompile(`\b(whsec_|[sr]k_(?:test|live)_)[^\s,]*`)

// mask returns the kind of each secret and how its length compares with the usual one, which shows
// whether it was cut or pasted twice. It returns nothing that helps to guess one.
func mask(secrets ...string) string {
	var masked []string
	for _, secret := range secrets {
		prefix := secretPattern.ReplaceAllString(secret, "$1")
		if secret == "" || prefix == secret {
			continue
		}
		least, most := 24, 255 // of API keys
		if prefix == "whsec_" {
			least, most = wholeSecret, 2*wholeSecret // stripe listen has the longer ones
		}
		length := "of the usual length"
		switch n := len(secret) - len(prefix); {
		case n < least:
			length = "shorter than usual"
		case n > most:
			length = "longer than usual"
		}
		masked = append(masked, prefix+"… ("+length+")")
	}
	return strings.Join(masked, ", ")
}
