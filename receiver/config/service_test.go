package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tillhook/receiver/config"
)

// machine is a folder that represents the root of a machine.
type machine struct {
	t    *testing.T
	root string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	return &machine{t, t.TempDir()}
}

func (m *machine) write(name, text string) string {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	mode := os.FileMode(0o644)
	if strings.Contains(name, "secret") {
		mode = 0o600
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// install writes the shipped units, and their templates as the package has them.
func (m *machine) install() {
	m.t.Helper()
	for _, name := range []string{"tillhook.service", "tillhook.socket", "tillhook-operator.socket", "tillhook-http.socket"} {
		text, err := os.ReadFile(filepath.Join("../../systemd", name))
		if err != nil {
			m.t.Fatal(err)
		}
		m.write("usr/lib/systemd/system/"+name, string(text))
		if name == "tillhook-http.socket" {
			continue
		}
		template := strings.NewReplacer("tillhook.socket", "tillhook@%i.socket", "tillhook-operator.socket", "tillhook-operator@%i.socket",
			"Service=tillhook.service", "Service=tillhook@%i.service", "StateDirectory=tillhook", "StateDirectory=tillhook@%i",
			"/etc/tillhook/", "/etc/tillhook/%i/", "/run/tillhook/operator", "/run/tillhook/%i/operator",
			"ListenStream=127.0.0.1:8080", "ListenStream=/run/tillhook/%i/public.sock").Replace(string(text))
		m.write("usr/lib/systemd/system/"+strings.Replace(name, ".s", "@.s", 1), template)
	}
}

func (m *machine) find(instance string, environ ...string) *config.Environment {
	m.t.Helper()
	s, err := config.Find(environ, m.root, instance)
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (m *machine) load(s *config.Environment) *config.Config {
	m.t.Helper()
	c, err := s.Receiver()
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// systemdCreds puts a program of that name first in PATH.
func systemdCreds(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "systemd-creds"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// A command has the settings of the service; each variable of its caller replaces that of the
// service.
func TestTheServicesSettings(t *testing.T) {
	m := newMachine(t)
	shell := []string{"PATH=/bin", "STRIPE_MODE="}
	if s := m.find("", shell...); s.Service != nil || s.DataDir() != "tillhook-data" || s.Keeper() != nil {
		t.Errorf("without a service: %+v, %s", s.Service, s.DataDir())
	}
	m.install()
	m.write("etc/tillhook/tillhook.env", "# a comment\nSTRIPE_MODE=test\nTILLHOOK_RETENTION=30d\nTILLHOOK_PUBLIC_URL=https://pay.haderer.example/\n")
	m.write("etc/tillhook/stripe_webhook_secret", goodSecret+"\n")
	s := m.find("", shell...)
	c := m.load(s)
	data, socket := filepath.Join(m.root, "var/lib/tillhook"), filepath.Join(m.root, "run/tillhook/operator.sock")
	if c.Livemode || c.WebhookSecrets[0] != goodSecret || c.WebhookSecretFrom != config.FromCredential || c.DataDir != data || s.DataDir() != data ||
		c.OperatorSocket != socket || c.Endpoint() != "https://pay.haderer.example/" || c.Retention.Hours() != 30*24 {
		t.Errorf("%+v", c)
	}
	if paths := s.SocketPaths(); paths[0].Path != socket || paths[0].Ask {
		t.Errorf("a receiver is looked for at %v", paths)
	}
	if s.From() != "The service's environment ("+filepath.Join(m.root, "etc/tillhook/tillhook.env")+")" {
		t.Error(s.From())
	}
	if got := strings.Join(s.Keeper().Units(), " "); got != "tillhook-http.socket tillhook-operator.socket tillhook.socket tillhook.service" {
		t.Error(got)
	}

	s = m.find("", "STRIPE_SECRET_KEY="+goodKey, "TILLHOOK_RETENTION=10d")
	if c := m.load(s); c.SecretKey != goodKey || c.Retention.Hours() != 10*24 || c.Endpoint() != "https://pay.haderer.example/" || c.WebhookSecrets[0] != goodSecret {
		t.Errorf("one variable hides others: %+v", c)
	}
	if !strings.Contains(s.From(), "with STRIPE_SECRET_KEY, TILLHOOK_RETENTION of this one") || strings.Contains(s.From(), goodKey) {
		t.Error(s.From())
	}
	if a, err := m.find("", "STRIPE_SECRET_KEY="+goodKey).Account(); err != nil || a.Key != goodKey || a.Endpoint != "https://pay.haderer.example/" {
		t.Errorf("%+v, %v", a, err)
	}
}

// A secret of the caller replaces that of the service, in any combination of forms.
func TestACallersSecretReplacesTheServices(t *testing.T) {
	own := filepath.Join(t.TempDir(), "own")
	passed := t.TempDir()
	for _, path := range []string{own, filepath.Join(passed, "stripe_webhook_secret")} {
		if err := os.WriteFile(path, []byte("whsec_ofTheCaller\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, service := range []string{"STRIPE_WEBHOOK_SECRET=" + goodSecret, "STRIPE_WEBHOOK_SECRET_FILE=/nowhere", ""} {
		for _, given := range []string{"STRIPE_WEBHOOK_SECRET=whsec_ofTheCaller", "STRIPE_WEBHOOK_SECRET_FILE=" + own, "CREDENTIALS_DIRECTORY=" + passed} {
			m := newMachine(t)
			m.install()
			m.write("etc/tillhook/tillhook.env", "STRIPE_MODE=test\n"+service+"\n")
			if service == "" {
				m.write("etc/tillhook/stripe_webhook_secret", goodSecret)
			}
			if c, err := m.find("", given).Receiver(); err != nil || c.WebhookSecrets[0] != "whsec_ofTheCaller" {
				t.Errorf("%q beside %q: %v", given, service, err)
			}
		}
	}
}

// Units and drop-ins are read as systemd reads them.
func TestUnitsAndDropIns(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.write("usr/lib/systemd/system/tillhook.service.d/50-vendor.conf", "[Service]\nEnvironment=TILLHOOK_LOG_LEVEL=debug\n")
	m.write("etc/systemd/system/tillhook.service.d/50-vendor.conf", "[Service]\nEnvironment=TILLHOOK_LOG_LEVEL=warn\n")
	m.write("run/systemd/system/service.d/10-all.conf", "[Service]\nEnvironment=TILLHOOK_MAX_BODY=600000\n")
	m.write("etc/systemd/system/tillhook.service.d/60-own.conf", "; another comment\n[Unit]\nEnvironment=STRIPE_MODE=live\n[Service]\n"+
		"Environment=\"STRIPE_WEBHOOK_SECRET=whsec_in\\x51uotes\" 'TILLHOOK_WEBHOOK_PATH=/%p' \\\n# within\n  TILLHOOK_TOLERANCE=1m\n"+
		"EnvironmentFile=\nEnvironmentFile=/etc/first\nEnvironmentFile=-/etc/missing\nEnvironmentFile=/etc/more.d/*.env\nStateDirectory=\nStateDirectory=till/books:link other\n")
	m.write("etc/systemd/system/tillhook.service.d/ignored.txt", "[Service]\nEnvironment=STRIPE_MODE=live\n")
	m.write("etc/tillhook/tillhook.env", "STRIPE_MODE=live\n")
	m.write("etc/first", "STRIPE_MODE=live\nTILLHOOK_BACKUP_KEEP=3\n")
	m.write("etc/more.d/b.env", "STRIPE_MODE=test\n")
	m.write("etc/more.d/a.env", "STRIPE_MODE=live\nTILLHOOK_TOLERANCE=2m\n")
	c := m.load(m.find(""))
	if c.Livemode || c.WebhookSecrets[0] != "whsec_inQuotes" || c.WebhookPath != "/tillhook" || c.Tolerance.Minutes() != 2 ||
		c.LogLevel.String() != "WARN" || c.MaxBody != 600000 || c.BackupKeep != 3 || c.DataDir != filepath.Join(m.root, "var/lib/till/books") {
		t.Errorf("%+v", c)
	}
	m.write("etc/systemd/system/tillhook.service.d/70.conf", "[Service]\nUnsetEnvironment=TILLHOOK_BACKUP_KEEP STRIPE_MODE=live\nEnvironment=TILLHOOK_DATA_DIR=/srv/till\n")
	if c := m.load(m.find("")); c.BackupKeep != 7 || c.Livemode || c.DataDir != "/srv/till" {
		t.Errorf("%+v", c)
	}
	m.write("etc/systemd/system/tillhook.service.d/80.conf", "[Service]\nEnvironmentFile=/etc/gone\n")
	if _, err := m.find("").Receiver(); err == nil || !strings.Contains(err.Error(), "/etc/gone") {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.Symlink("/dev/null", filepath.Join(m.root, "etc/systemd/system/tillhook.service")); err != nil {
		t.Fatal(err)
	}
	if s := m.find(""); s.Service != nil {
		t.Error("a masked unit counts")
	}
}

// Lines of environment files, each with the value that systemd 252 gives them.
func TestEnvironmentFiles(t *testing.T) {
	for text, want := range map[string]string{
		"TILLHOOK_PUBLIC_URL=https://a.example/x":               "https://a.example/x",
		"  TILLHOOK_PUBLIC_URL = \"https://a.example/x\"  \n":   "https://a.example/x",
		"TILLHOOK_PUBLIC_URL='https://a.example/x'\r\n":         "https://a.example/x",
		"TILLHOOK_PUBLIC_URL=https://a.example/\\\nx":           "https://a.example/x",
		"TILLHOOK_PUBLIC_URL=\"https://a.example/\n\"":          "https://a.example/\n",
		"TILLHOOK_PUBLIC_URL=\"https://a\".example/x":           "https://a.example/x",
		"#TILLHOOK_PUBLIC_URL=x\n;TILLHOOK_PUBLIC_URL=x":        "",
		"TILLHOOK_PUBLIC_URL\nexport TILLHOOK_PUBLIC_URL=x\n":   "",
		"TILLHOOK_PUBLIC_URL=https://a.example/x # no comment":  "https://a.example/x # no comment",
		"TILLHOOK_PUBLIC_URL=x\nTILLHOOK_PUBLIC_URL=y":          "y",
		"TILLHOOK_PUBLIC_URL=\"a\\\"b\\n\\\\\"":                 "a\"b\\n\\",
		"TILLHOOK_PUBLIC_URL='a\\b'":                            "a\\b",
		"TILLHOOK_PUBLIC_URL=x\nTILLHOOK_PUBLIC_URL=\nSTRIPE=1": "x",
	} {
		got := ""
		for _, v := range config.ParseEnvFile(text) {
			if value, ok := strings.CutPrefix(v, "TILLHOOK_PUBLIC_URL="); ok && value != "" {
				got = value
			}
		}
		if got != want {
			t.Errorf("%q is read as %q, want %q", text, got, want)
		}
	}
}

// Encrypted credentials are decrypted, in a file or in the unit; the later setting of an id counts.
func TestEncryptedCredentials(t *testing.T) {
	systemdCreds(t, `[ "$1 $2 $3 $4" = "decrypt --name=stripe_webhook_secret - -" ] || exit 3; [ "$(cat)" = c2VhbGVk ] || { echo "Bad message" >&2; exit 1; }; echo whsec_unsealed`)
	for name, text := range map[string]string{
		"a file":      "LoadCredentialEncrypted=stripe_webhook_secret:/etc/tillhook/secret.cred\n",
		"the unit":    "LoadCredential=\nSetCredentialEncrypted=stripe_webhook_secret: \\\n c2Vh \\\n bGVk\n",
		"a credstore": "LoadCredentialEncrypted=stripe_webhook_secret\n",
	} {
		m := newMachine(t)
		m.install()
		m.write("etc/tillhook/tillhook.env", "STRIPE_MODE=test\n")
		m.write("etc/tillhook/secret.cred", "c2VhbGVk\n")
		m.write("etc/credstore.encrypted/stripe_webhook_secret", "c2VhbGVk\n")
		m.write("etc/systemd/system/tillhook.service.d/encrypted.conf", "[Service]\n"+text)
		if c, err := m.find("").Receiver(); err != nil || c.WebhookSecrets[0] != "whsec_unsealed" || c.WebhookSecretFrom != config.FromCredential {
			t.Errorf("in %s: %v", name, err)
		}
		m.write("etc/tillhook/secret.cred", "garbled")
		m.write("etc/credstore.encrypted/stripe_webhook_secret", "garbled")
		if _, err := m.find("").Receiver(); name != "the unit" && (err == nil || !strings.Contains(err.Error(), "Bad message")) {
			t.Errorf("garbled, in %s: %v", name, err)
		}
	}
}

// Credentials that a unit imports are found as systemd finds them: what LoadCredential= names comes
// first, then the stores in their order.
func TestImportedCredentials(t *testing.T) {
	systemdCreds(t, `[ "$2" = "--name=stripe_webhook_secret" ] && [ "$(cat)" = c2VhbGVk ] && echo whsec_unsealed`)
	for name, c := range map[string]struct {
		text  string
		files map[string]string // below the root
		want  string
	}{
		"by its name":                  {"ImportCredential=stripe_webhook_secret", map[string]string{"etc/credstore/stripe_webhook_secret": "whsec_etc", "usr/lib/credstore/stripe_webhook_secret": "whsec_usr"}, "whsec_etc"},
		"by its beginning":             {"ImportCredential=stripe_*", map[string]string{"run/credstore/stripe_webhook_secret": "whsec_run", "run/credstore/other": "x"}, "whsec_run"},
		"all":                          {"ImportCredential=*", map[string]string{"usr/local/lib/credstore/stripe_webhook_secret": "whsec_local"}, "whsec_local"},
		"passed to systemd":            {"ImportCredential=stripe_*", map[string]string{"run/credentials/@system/stripe_webhook_secret": "whsec_system", "etc/credstore/stripe_webhook_secret": "whsec_etc"}, "whsec_system"},
		"encrypted":                    {"ImportCredential=stripe_webhook_*", map[string]string{"etc/credstore.encrypted/stripe_webhook_secret": "c2VhbGVk"}, "whsec_unsealed"},
		"in the clear before":          {"ImportCredential=stripe_*", map[string]string{"etc/credstore.encrypted/stripe_webhook_secret": "c2VhbGVk", "usr/lib/credstore/stripe_webhook_secret": "whsec_clear"}, "whsec_clear"},
		"renamed":                      {"ImportCredential=shop.hook:stripe_webhook_secret", map[string]string{"etc/credstore/shop.hook": "whsec_renamed"}, "whsec_renamed"},
		"with another beginning":       {"ImportCredential=shop.%N.*:stripe_", map[string]string{"etc/credstore/shop.tillhook.webhook_secret": "whsec_begins"}, "whsec_begins"},
		"beside one that is loaded":    {"ImportCredential=stripe_*\nLoadCredential=stripe_webhook_secret:/etc/own", map[string]string{"etc/own": "whsec_own", "etc/credstore/stripe_webhook_secret": "whsec_etc"}, "whsec_own"},
		"where that is not there":      {"LoadCredential=stripe_webhook_secret:/etc/own\nImportCredential=stripe_*", map[string]string{"etc/credstore/stripe_webhook_secret": "whsec_etc"}, "whsec_etc"},
		"before a default":             {"SetCredential=stripe_webhook_secret:whsec_default\nImportCredential=stripe_*", map[string]string{"etc/credstore/stripe_webhook_secret": "whsec_etc"}, "whsec_etc"},
		"another's name":               {"ImportCredential=stripe_webhook", map[string]string{"etc/credstore/stripe_webhook_secret": "whsec_etc"}, ""},
		"no longer":                    {"ImportCredential=stripe_*\nImportCredential=", map[string]string{"etc/credstore/stripe_webhook_secret": "whsec_etc"}, ""},
		"loaded, as passed to systemd": {"LoadCredential=stripe_webhook_secret", map[string]string{"run/credentials/@system/stripe_webhook_secret": "whsec_system"}, "whsec_system"},
	} {
		m := newMachine(t)
		m.install()
		m.write("etc/tillhook/tillhook.env", "STRIPE_MODE=test\n")
		m.write("etc/systemd/system/tillhook.service.d/import.conf", "[Service]\nLoadCredential=\n"+c.text+"\n")
		for file, text := range c.files {
			m.write(file, text+"\n")
		}
		loaded, err := m.find("").Receiver()
		if got := ""; c.want != "" {
			if err == nil {
				got = loaded.WebhookSecrets[0]
			}
			if got != c.want {
				t.Errorf("%s: got %q, %v, want %q", name, got, err, c.want)
			}
		} else if err == nil || !strings.Contains(err.Error(), "STRIPE_WEBHOOK_SECRET is not set") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An instance has units, settings, a folder and a socket of its own. One that is not there is an
// error.
func TestInstances(t *testing.T) {
	m := newMachine(t)
	m.install()
	var unknown *config.UnknownInstance
	if _, err := config.Find(nil, m.root, "live"); !errors.As(err, &unknown) || len(unknown.Known) != 0 {
		t.Errorf("%v", err)
	}
	m.write("etc/tillhook/tillhook.env", "STRIPE_MODE=test\n")
	m.write("etc/tillhook/tillhook.env.d/own.env", "STRIPE_MODE=test\n")
	m.write("etc/tillhook/live/tillhook.env", "STRIPE_MODE=live\n")
	m.write("etc/tillhook/live/stripe_webhook_secret", "whsec_ofLive\n")
	m.write("etc/systemd/system/multi-user.target.wants/tillhook@second.service", "")
	m.write("var/lib/tillhook@third/ledger.db", "")
	m.write("etc/systemd/system/tillhook@.socket.d/port.conf", "[Socket]\nListenStream=\nListenStream=8%i\n")
	if got := config.Instances(m.root); !slices.Equal(got, []string{"live", "second", "third"}) {
		t.Errorf("there are %v", got)
	}
	s := m.find("live", "TILLHOOK_LOG_LEVEL=warn")
	c := m.load(s)
	if !c.Livemode || c.DataDir != filepath.Join(m.root, "var/lib/tillhook@live") || c.OperatorSocket != filepath.Join(m.root, "run/tillhook/live/operator.sock") ||
		c.WebhookSecrets[0] != "whsec_ofLive" || c.LogLevel.String() != "WARN" || s.Service.Unit != "tillhook@live.service" {
		t.Errorf("%+v", c)
	}
	if address, unit := s.Listens(); address != ":8live" || unit != "tillhook@live.socket" {
		t.Errorf("it listens at %s by %s", address, unit)
	}
	for _, name := range []string{"none", "../x", "tillhook.env", "liv"} {
		_, err := config.Find(nil, m.root, name)
		if !errors.As(err, &unknown) || !strings.Contains(err.Error(), "there are: live, second, third") {
			t.Errorf("an instance %q: %v", name, err)
		}
	}
}

// If the caller sets the folder, only a service that owns this folder is asked about it.
func TestTheCallersFolder(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.write("etc/tillhook/tillhook.env", "STRIPE_MODE=test\n")
	m.write("etc/tillhook/live/tillhook.env", "STRIPE_MODE=live\n")
	m.write("var/lib/private/tillhook@live/ledger.db", "")
	if err := os.Symlink("private/tillhook@live", filepath.Join(m.root, "var/lib/tillhook@live")); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	s := m.find("", "TILLHOOK_DATA_DIR="+other)
	if paths := s.SocketPaths(); s.DataDir() != other || len(paths) != 1 || paths[0].Path != filepath.Join(other, "operator.sock") || s.Keeper() != nil {
		t.Errorf("%s, %v", s.DataDir(), paths)
	}
	socket := filepath.Join(m.root, "run/tillhook/live/operator.sock")
	s = m.find("", "TILLHOOK_DATA_DIR="+filepath.Join(m.root, "var/lib/private/tillhook@live"))
	if paths := s.SocketPaths(); len(paths) != 2 || paths[1].Path != socket || !paths[1].Ask || s.Keeper() == nil || s.Keeper().Unit != "tillhook@live.service" {
		t.Errorf("the folder of an instance: %v, %+v", paths, s.Keeper())
	}
	s = m.find("", "TILLHOOK_DATA_DIR="+other, "TILLHOOK_OPERATOR_SOCKET=/run/x.sock")
	if paths := s.SocketPaths(); len(paths) != 2 || paths[0].Path != "/run/x.sock" || !paths[0].Ask {
		t.Errorf("with a socket: %v", paths)
	}
	if config.SameLedger("", other) || config.SameLedger("/var/lib/tillhook/ledger.db", other) || !config.SameLedger(filepath.Join(other, "ledger.db"), other) ||
		!config.SameLedger("/var/lib/private/none/ledger.db", "/var/lib/none") {
		t.Error("ledgers are mixed up")
	}
}

// Events are sent to the address of the socket unit, unless the caller sets one.
func TestWhereEventsAreSent(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.write("etc/tillhook/tillhook.env", "STRIPE_MODE=test\nTILLHOOK_LISTEN=127.0.0.1:7\nTILLHOOK_WEBHOOK_PATH=/hooks\n")
	m.write("etc/tillhook/stripe_webhook_secret", goodSecret+"\n")
	sent := func(environ ...string) string {
		t.Helper()
		target, err := m.find("", environ...).Sender("")
		if err != nil || target.Secret != goodSecret {
			t.Fatalf("%+v, %v", target, err)
		}
		return strings.TrimSuffix(target.URL+" "+target.Socket, " ")
	}
	if got := sent(); got != "http://127.0.0.1:8080/hooks" {
		t.Error(got)
	}
	if got := sent("TILLHOOK_LISTEN=127.0.0.1:9000"); got != "http://127.0.0.1:9000/hooks" {
		t.Error(got)
	}
	for listen, want := range map[string]string{"8081": "http://127.0.0.1:8081/hooks", "[::1]:8082": "http://[::1]:8082/hooks", "0.0.0.0:80": "http://127.0.0.1:80/hooks",
		"*:81": "http://127.0.0.1:81/hooks", "/run/till.sock": "http://localhost/hooks " + filepath.Join(m.root, "run/till.sock")} {
		m.write("etc/systemd/system/tillhook.socket.d/port.conf", "[Socket]\nListenStream=\nListenStream="+listen+"\n")
		if got := sent(); got != want {
			t.Errorf("%s: %s", listen, got)
		}
	}
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("whsec_ofAFile\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if target, err := m.find("").Sender(file); err != nil || target.Secret != "whsec_ofAFile" {
		t.Errorf("%+v, %v", target, err)
	}
}

// A user who may not read the service's secrets gets an error that says so, if they are needed.
func TestSecretsOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	m := newMachine(t)
	m.install()
	m.write("etc/tillhook/tillhook.env", "STRIPE_MODE=test\nTILLHOOK_PUBLIC_URL=https://pay.haderer.example/\n")
	m.write("etc/tillhook/stripe_webhook_secret", goodSecret+"\n")
	for up := m.root; up != "/" && up != os.TempDir(); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	asOtherUser(t, func() {
		s := m.find("")
		if _, err := s.Receiver(); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "run this as root") {
			t.Errorf("%v", err)
		}
		if a, err := m.find("", "STRIPE_SECRET_KEY="+goodKey).Account(); err != nil || a.Endpoint != "https://pay.haderer.example/" {
			t.Errorf("with a key of one's own: %+v, %v", a, err)
		}
		if s.DataDir() != filepath.Join(m.root, "var/lib/tillhook") {
			t.Error(s.DataDir())
		}
	})
	if err := os.Chmod(m.write("etc/systemd/system/tillhook.service.d/own.conf", "[Service]\nStateDirectory=else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	asOtherUser(t, func() { // who may not read all of the unit still finds its socket
		s := m.find("", "STRIPE_SECRET_KEY="+goodKey)
		if _, err := s.Account(); !errors.Is(err, os.ErrPermission) || s.SocketPaths()[0].Path != filepath.Join(m.root, "run/tillhook/operator.sock") {
			t.Errorf("%v, %v", err, s.SocketPaths())
		}
	})
}

// asOtherUser runs a function with the rights of another user, on one thread.
func asOtherUser(t *testing.T, do func()) {
	t.Helper()
	const other = 65534 // of the group and the user without rights
	if err := syscall.Setresuid(-1, other, -1); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setresuid(-1, 0, -1); err != nil {
			t.Fatal(err)
		}
	}()
	do()
}

// Maintenance needs neither a secret nor a mode, and checks only its own variables.
func TestMaintenanceNeedsNoSecret(t *testing.T) {
	s, err := config.Find([]string{"TILLHOOK_DATA_DIR=/d", "TILLHOOK_RETENTION=5d", "TILLHOOK_TOLERANCE=x", "TILLHOOK_BACKUP_DIR=/b"}, t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := s.Maintenance(); err != nil || c.DataDir != "/d" || c.Retention.Hours() != 120 || c.BackupDir != "/b" {
		t.Errorf("%+v, %v", c, err)
	}
	if s, err = config.Find([]string{"TILLHOOK_RETENTION=x"}, t.TempDir(), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Maintenance(); err == nil || !strings.Contains(err.Error(), "TILLHOOK_RETENTION") {
		t.Errorf("a wrong retention: %v", err)
	}
}

func TestAnAccountNeedsNoSigningSecret(t *testing.T) {
	account := func(environ ...string) (*config.Account, error) {
		s, err := config.Find(environ, t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		return s.Account()
	}
	a, err := account("STRIPE_SECRET_KEY="+goodKey, "TILLHOOK_TLS_DOMAIN=pay.haderer.example", "TILLHOOK_WEBHOOK_PATH=/hooks", "STRIPE_API_BASE=http://127.0.0.1:1")
	if err != nil || a.Key != goodKey || a.Livemode || a.Endpoint != "https://pay.haderer.example/hooks" || a.APIBase.Host != "127.0.0.1:1" {
		t.Errorf("%+v, %v", a, err)
	}
	for _, env := range [][]string{nil, {"STRIPE_MODE=test"}, {"STRIPE_SECRET_KEY=pk_test_x"}} {
		if _, err := account(env...); err == nil || !strings.Contains(err.Error(), "STRIPE_SECRET_KEY") {
			t.Errorf("%v: %v", env, err)
		}
	}
}

// The error for a missing secret names the file that the service reads it from.
func TestWhereAMissingSecretGoes(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.write("etc/tillhook/live/tillhook.env", "STRIPE_MODE=live\n")
	if _, err := m.find("live").Receiver(); err == nil || !strings.Contains(err.Error(), "put it into "+filepath.Join(m.root, "etc/tillhook/live/stripe_webhook_secret")+", with mode 600") {
		t.Errorf("to a command: %v", err)
	}
	if _, err := newMachine(t).find("", "STRIPE_MODE=live", "CREDENTIALS_DIRECTORY="+t.TempDir()).Receiver(); err == nil || !strings.Contains(err.Error(), "put it into /etc/tillhook/stripe_webhook_secret, with mode 600") {
		t.Errorf("to the service: %v", err)
	}
}

// A secret in an environment file that every user can read is listed; one that is not set, or not
// readable, is not.
func TestExposedSecrets(t *testing.T) {
	m := newMachine(t)
	m.install()
	file := m.write("etc/tillhook/tillhook.env", "STRIPE_MODE=test\nSTRIPE_SECRET_KEY=\nSTRIPE_WEBHOOK_SECRET="+goodSecret+"\n")
	if got := m.find("").Exposed(); !slices.Equal(got, []config.Exposed{{Variable: "STRIPE_WEBHOOK_SECRET", File: file}}) {
		t.Errorf("%v", got)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if got := m.find("").Exposed(); len(got) > 0 {
		t.Errorf("of a file of mode 640: %v", got)
	}
}
