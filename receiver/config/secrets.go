package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

const (
	webhookSecretName = "STRIPE_WEBHOOK_SECRET"
	secretKeyName     = "STRIPE_SECRET_KEY"
	modeName          = "STRIPE_MODE"

	revealHint = `the signing secret starts with "whsec_" (Dashboard, Webhooks, your endpoint, Reveal)`
	keyKind    = `use a secret or restricted key of the Dashboard (Developers, API keys)`
	keyHint    = keyKind + `, or set STRIPE_MODE to test or live instead`
)

// signing reads the signing secrets.
func (r *reader) signing() {
	if value, from, ok := r.secret(webhookSecretName, r.vars.WebhookSecret, r.vars.WebhookSecretFile); ok {
		r.config.WebhookSecretFrom = from
		r.webhookSecrets(value)
	} else if !r.hasFault(webhookSecretName) {
		r.fault(webhookSecretName, "is not set", revealHint+r.place(webhookSecretName))
	}
}

// place says where the installed service takes a secret from that is not there, so that nobody puts
// it into a file that everybody can read.
func (r *reader) place(name string) string {
	id := strings.ToLower(name)
	switch c := r.service[id]; {
	case c.path != "" && !c.encrypted:
		return "; put it into " + c.path + ", of mode 600"
	case r.vars.CredentialsDir != "": // which file that is the service itself is not told
		return "; put it into /etc/tillhook/" + id + ", of mode 600, or where else LoadCredential= of the unit has it from"
	}
	return ""
}

// mode reads the API key and what mode it is of, or the mode alone.
func (r *reader) mode() {
	keyMode := ""
	key, from, haveKey := r.secret(secretKeyName, r.vars.SecretKey, r.vars.SecretKeyFile)
	if haveKey {
		r.config.SecretKeyFrom = from
		keyMode = r.secretKey(key)
	}
	mode, modeOK := r.plain(modeName, r.vars.Mode), true
	switch {
	case mode != "" && mode != "test" && mode != "live":
		r.fault(modeName, "is neither test nor live", "set it to the mode of the endpoint whose secret you use")
		modeOK = false
	case mode == "" && !haveKey && !r.hasFault(secretKeyName):
		r.fault(modeName, "is not set, and neither is "+secretKeyName, "set one of them, so that no test payment gets into live books: STRIPE_MODE to test or live, or the key")
	case mode != "" && keyMode != "" && mode != keyMode:
		r.fault(modeName, "says "+mode+" and "+secretKeyName+" is a "+keyMode+" mode key", "use a key of the same mode, or unset STRIPE_MODE")
	}
	if keyMode == "" && modeOK {
		keyMode = mode
	}
	r.config.Livemode = keyMode == "live"
}

func (r *reader) hasFault(name string) bool {
	for _, f := range r.faults {
		if strings.HasPrefix(f.Name, name) {
			return true
		}
	}
	return false
}

// wrongPrefixes are what people paste in place of a signing secret.
var wrongPrefixes = []struct{ prefix, problem string }{
	{"we_", "that is the endpoint's id"},
	{"sk_", "that is an API key"},
	{"rk_", "that is a restricted API key"},
	{"pk_", "that is a publishable key"},
	{"acct_", "that is an account's id"},
	{"evt_", "that is an event's id"},
}

func (r *reader) webhookSecrets(list string) {
	entries := strings.Split(list, ",")
	for i, entry := range entries {
		name := webhookSecretName
		if len(entries) > 1 {
			name = fmt.Sprintf("%s, entry %d of %d,", name, i+1, len(entries))
		}
		secret := trim(entry)
		if secret != entry && secret != "" {
			r.warn("%s had white space or quotes around it; they were left out", name)
		}
		if !r.webhookSecret(name, secret) {
			continue
		}
		if slices.Contains(r.config.WebhookSecrets, secret) {
			r.warn("%s is there before; once is enough", name)
			continue
		}
		r.config.WebhookSecrets = append(r.config.WebhookSecrets, secret)
	}
}

func (r *reader) webhookSecret(name, secret string) bool {
	for _, wrong := range wrongPrefixes {
		if strings.HasPrefix(secret, wrong.prefix) {
			r.fault(name, fmt.Sprintf("starts with %q", wrong.prefix), wrong.problem+"; "+revealHint)
			return false
		}
	}
	switch {
	case secret == "":
		r.fault(name, "is empty", revealHint)
	case !strings.HasPrefix(secret, "whsec_"):
		r.fault(name, `does not start with "whsec_"`, revealHint)
	case secret == "whsec_":
		r.fault(name, `is "whsec_" and nothing behind it`, "copy the whole secret; "+revealHint)
	case !plausible(secret):
		r.fault(name, "has white space or a character in it that no secret has", "copy it again; several secrets are separated by commas")
	default:
		return true
	}
	return false
}

// secretKey checks an API key and tells its mode, "" if it has a fault.
func (r *reader) secretKey(key string) (mode string) {
	for prefix, mode := range map[string]string{"sk_test_": "test", "rk_test_": "test", "sk_live_": "live", "rk_live_": "live"} {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			if rest == "" || !plausible(rest) {
				r.fault(secretKeyName, "is not a whole key", "copy it again; "+keyHint)
				return ""
			}
			r.config.SecretKey = key
			return mode
		}
	}
	switch {
	case strings.HasPrefix(key, "pk_"):
		r.fault(secretKeyName, `starts with "pk_"`, "that is a publishable key, which cannot read events; "+keyHint)
	case strings.HasPrefix(key, "whsec_"):
		r.fault(secretKeyName, `starts with "whsec_"`, "that is a signing secret, which belongs in "+webhookSecretName+"; "+keyHint)
	default:
		r.fault(secretKeyName, `starts with none of "sk_test_", "sk_live_", "rk_test_", "rk_live_"`, "its mode cannot be told; "+keyHint)
	}
	return ""
}

// secret finds a secret in the one place it may come from. ok is false where there is none, or a fault was found.
func (r *reader) secret(name, value, file string) (secret string, from Origin, ok bool) {
	var sources []string
	if value != "" {
		sources = append(sources, name)
	}
	if file != "" {
		sources = append(sources, name+"_FILE")
	}
	passed, isPassed := r.credential(name)
	if isPassed {
		sources = append(sources, "the credential "+strings.ToLower(name))
	}
	if len(sources) > 1 {
		r.fault(name, "comes from "+strings.Join(sources, " and "), "keep one of them, so that it is plain which one counts")
		return "", FromNowhere, false
	}
	source := name
	switch {
	case file != "":
		source, from = name+"_FILE", FromFile
		value, ok = r.secretFile(source, file, true)
	case passed.path != "":
		from = FromCredential
		value, ok = r.secretFile(name+" (credential)", passed.path, false)
	case isPassed:
		from, value, ok = FromCredential, passed.text, true
		value = strings.TrimSuffix(strings.TrimSuffix(value, "\n"), "\r") // as files end
	default:
		from, ok = FromVariable, value != ""
	}
	if !ok {
		return "", FromNowhere, false
	}
	trimmed := trim(value)
	if trimmed != value {
		r.warn("%s had white space or quotes around it; they were left out", source)
	}
	if trimmed == "" {
		r.fault(source, "holds nothing but white space and quotes", "put the secret in")
		return "", FromNowhere, false
	}
	return trimmed, from, true
}

// isBlank tells that a file has nothing but white space in it. Such a credential is none: a unit that names one
// cannot leave it out in another way.
func isBlank(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > 16 {
		return false
	}
	content, err := os.ReadFile(path)
	return err == nil && strings.TrimSpace(string(content)) == ""
}

// maxSecretFile is more than any list of secrets takes, and bounds what a wrong path can make us read.
const maxSecretFile = 64 << 10

func (r *reader) secretFile(name, path string, ours bool) (value string, ok bool) {
	info, err := os.Stat(path) // before it is opened: opening a pipe waits for its other end
	if err == nil && !info.Mode().IsRegular() {
		r.fault(name, "names what is not a file", "name the file that holds the secret")
		return "", false
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(path)
	}
	if err != nil {
		r.fault(name, "names a file that cannot be opened ("+reason(err)+")", "check the path and who may read it")
		return "", false
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	switch {
	case err != nil:
		r.fault(name, "names a file that cannot be read ("+reason(err)+")", "check the path and who may read it")
		return "", false
	case len(content) > maxSecretFile:
		r.fault(name, "names a file far too large for a secret", "name the file that holds the secret alone")
		return "", false
	case len(content) == 0:
		r.fault(name, "names an empty file", "put the secret in it")
		return "", false
	}
	if ours && info.Mode().Perm()&0o004 != 0 {
		r.warn("the file that %s names can be read by everybody on this machine; chmod 600 it", name)
	}
	// One newline at the end is how files end.
	value = strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	return value, true
}

// reason is why a file could not be used, without its path.
func reason(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// trim takes off what copying and env files leave around a value.
func trim(s string) string { return strings.Trim(s, " \t\r\n\v\f\u00a0\ufeff\"'`“”‘’") }

// plausible: every character is one that secrets and keys are made of.
func plausible(s string) bool {
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+/=") == ""
}

// printable: every character is a visible ASCII one.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
