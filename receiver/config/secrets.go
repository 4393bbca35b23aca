package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	revealHint = `the signing secret starts with "whsec_" (Dashboard, Webhooks, your endpoint, Reveal)`
	keyKind    = `use a secret or restricted key from the Dashboard (Developers, API keys)`
	keyHint    = keyKind + `, or set STRIPE_MODE to test or live instead`

	organizationHint = "that is a key of an organization, which belongs to no account: Stripe answers it only for an " +
		"account that each call names, and it opens every account of the organization. Use a restricted key of the " +
		"account whose endpoint this is, made in that account's own Dashboard (Developers, API keys). If the endpoint " +
		"is the organization's, set STRIPE_MODE to test or live instead; missed events are not fetched then"
)

// webhookSecrets reads the signing secrets.
func (r *reader) webhookSecrets(name, _ string) {
	value, from, ok := r.secret(name)
	if !ok {
		if !r.hasFault(name) {
			r.fault(name, "is not set", revealHint+r.whereToPut(name))
		}
		return
	}
	r.config.WebhookSecretFrom = from
	entries := strings.Split(value, ",")
	for i, entry := range entries {
		which := name
		if len(entries) > 1 {
			which = fmt.Sprintf("%s, entry %d of %d,", name, i+1, len(entries))
		}
		secret := trim(entry)
		if secret != "" {
			r.trim(which, entry) // for its warning
		}
		switch problem, fix := webhookSecretProblem(secret); {
		case problem != "":
			r.fault(which, problem, fix)
		case slices.Contains(r.config.WebhookSecrets, secret):
			r.warn("%s repeats an earlier entry; once is enough", which)
		default:
			r.config.WebhookSecrets = append(r.config.WebhookSecrets, secret)
		}
	}
}

// whereToPut names the file from which the installed service takes a secret, for the end of a
// sentence, so that the secret is not put into a file that every user can read.
func (r *reader) whereToPut(name string) string {
	id := strings.ToLower(name)
	switch c := r.service[id]; {
	case c.path != "" && !c.encrypted:
		return "; put it into " + c.path + ", with mode 600"
	case r.systemd.Credentials != "": // the service itself does not know the file
		return "; put it into /etc/tillhook/" + id + ", with mode 600, or into the file of LoadCredential= in the unit"
	}
	return ""
}

// wrongPrefixes are of what people paste instead of a signing secret.
var wrongPrefixes = []struct{ prefix, problem string }{
	{"we_", "that is the endpoint's id"},
	{"sk_", "that is an API key"},
	{"rk_", "that is a restricted API key"},
	{"pk_", "that is a publishable key"},
	{"acct_", "that is an account's id"},
	{"evt_", "that is an event's id"},
}

func webhookSecretProblem(secret string) (problem, fix string) {
	for _, wrong := range wrongPrefixes {
		if strings.HasPrefix(secret, wrong.prefix) {
			return fmt.Sprintf("starts with %q", wrong.prefix), wrong.problem + "; " + revealHint
		}
	}
	switch {
	case secret == "":
		return "is empty", revealHint
	case !strings.HasPrefix(secret, "whsec_"):
		return `does not start with "whsec_"`, revealHint
	case secret == "whsec_":
		return `is "whsec_" without the rest`, "copy the whole secret; " + revealHint
	case !plausible(secret):
		return "has white space or a character in it that no secret has", "copy it again; several secrets are separated by commas"
	}
	return "", ""
}

// keyPattern matches an API key: its mode, and the part behind the prefix.
var keyPattern = regexp.MustCompile(`(?s)^[sr]k_(test|live)_(.*)$`)

// secretKey reads the API key and its mode.
func (r *reader) secretKey(name, _ string) {
	key, from, ok := r.secret(name)
	if !ok {
		return
	}
	r.config.SecretKeyFrom = from
	switch match := keyPattern.FindStringSubmatch(key); {
	case match != nil && match[2] != "" && plausible(match[2]):
		r.config.SecretKey, r.keyMode = key, match[1]
	case match != nil:
		r.fault(name, "is not a whole key", "copy it again; "+keyHint)
	case strings.HasPrefix(key, "sk_org"): // https://docs.stripe.com/keys/organization-api-keys
		r.fault(name, `starts with "sk_org"`, organizationHint)
	case strings.HasPrefix(key, "pk_"):
		r.fault(name, `starts with "pk_"`, "that is a publishable key, which cannot read events; "+keyHint)
	case strings.HasPrefix(key, "whsec_"):
		r.fault(name, `starts with "whsec_"`, "that is a signing secret, which belongs in "+webhookSecretName+"; "+keyHint)
	default:
		r.fault(name, `starts with none of "sk_test_", "sk_live_", "rk_test_", "rk_live_"`, "its mode is unknown; "+keyHint)
	}
}

// secret finds a secret, which must have exactly one source. ok is false if none exists, or after
// an error.
func (r *reader) secret(name string) (secret string, from Source, ok bool) {
	value, file := r.values[name], r.values[name+"_FILE"]
	passed, isPassed := r.credential(name)
	var sources []string
	source := name
	if value != "" {
		sources, from = append(sources, name), FromEnvironment
	}
	if file != "" {
		source, from = name+"_FILE", FromFile
		sources = append(sources, source)
	}
	if isPassed {
		sources, from, value = append(sources, "the credential "+strings.ToLower(name)), FromCredential, passed
	}
	switch {
	case len(sources) == 0:
		return "", FromNowhere, false
	case len(sources) > 1:
		r.fault(name, "comes from "+strings.Join(sources, " and "), "keep one of them, so that it is clear which one applies")
		return "", FromNowhere, false
	case file != "":
		content, mode, err := readSecretFile(file)
		if err != nil {
			r.fault(source, "names a file that cannot be used ("+reason(err)+")", "name a file that holds only the secret, and check its permissions")
			return "", FromNowhere, false
		}
		if mode&0o004 != 0 {
			r.warn("the file that %s names can be read by every user of this machine; chmod 600 it", source)
		}
		value = string(content)
	}
	value = strings.TrimSuffix(strings.TrimSuffix(value, "\n"), "\r") // as files end
	if value = r.trim(source, value); value == "" {
		r.fault(source, "contains no secret", "put the secret in")
		return "", FromNowhere, false
	}
	return value, from, true
}

// credential returns a secret that systemd passes to this process, or would pass to the service. A
// blank one counts as absent: a unit that names a credential cannot omit it in another way.
func (r *reader) credential(name string) (text string, ok bool) {
	id := strings.ToLower(name)
	if r.systemd.Credentials != "" {
		if text, ok := r.readCredential(name, credential{path: filepath.Join(r.systemd.Credentials, id)}); ok {
			return text, true
		}
	}
	c, ok := r.service[id]
	if !ok || slices.Contains(r.replaced, name) {
		return "", false
	}
	return r.readCredential(name, c)
}

func (r *reader) readCredential(name string, c credential) (text string, ok bool) {
	text, err := c.read(strings.ToLower(name))
	switch {
	case errors.Is(err, fs.ErrPermission) && r.service != nil:
		r.denied = err
	case err != nil:
		r.fault(name+" (credential)", "cannot be read: "+reason(err), "look at the unit's settings: systemctl cat tillhook")
	}
	return text, err == nil && strings.TrimSpace(text) != ""
}

// readSecretFile returns the content of a file that holds a secret. It opens only small regular
// files, because the path may be wrong, and opening a pipe waits for its other end.
func readSecretFile(path string) (content []byte, mode fs.FileMode, err error) {
	const maxSize = 64 << 10 // more than any list of secrets needs
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, 0, err
	case !info.Mode().IsRegular():
		return nil, 0, errors.New("not a regular file")
	case info.Size() > maxSize:
		return nil, 0, errors.New("too large for a secret")
	}
	content, err = os.ReadFile(path)
	return content, info.Mode(), err
}

// reason returns why a file could not be used, without its path.
func reason(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// trim removes what copying and environment files leave around a value.
func trim(s string) string { return strings.Trim(s, " \t\r\n\v\f\u00a0\ufeff\"'`“”‘’") }

// plausible reports whether s consists of the characters of secrets and keys.
func plausible(s string) bool {
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+/=") == ""
}

// printable reports whether s consists of visible ASCII characters.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
