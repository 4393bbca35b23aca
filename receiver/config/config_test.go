package config_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"tillhook/receiver/config"
)

// Secrets of a valid environment, which the tests change. None of them may be printed.
const (
	goodSecret = "whsec_Qm9va2JpbmRlcnNBbmRJbms"
	goodKey    = "rk_test_51QbD7sKvHadernBlz9w"
)

func with(pairs ...string) []string {
	return append([]string{"STRIPE_WEBHOOK_SECRET=" + goodSecret, "STRIPE_SECRET_KEY=" + goodKey, "PATH=/bin", "HOME=/root"}, pairs...)
}

func TestDefaults(t *testing.T) {
	c, err := config.Load(with())
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Config{
		WebhookSecrets: []string{goodSecret}, SecretKey: goodKey, Listen: "127.0.0.1:8080", WebhookPath: "/webhooks/stripe",
		OperatorListen: "127.0.0.1:9464", OperatorSocket: "tillhook-data/operator.sock", DataDir: "tillhook-data",
		Tolerance: 5 * time.Minute, MaxBody: 1 << 20, Retention: 90 * 24 * time.Hour, ReconcileEvery: 15 * time.Minute,
		BackupEvery: 24 * time.Hour, BackupKeep: 7,
		WebhookSecretFrom: config.FromEnvironment, SecretKeyFrom: config.FromEnvironment, StripeIPs: "off",
		LogFormat: "text", LogLevel: slog.LevelInfo,
	}
	if c = config.Fields(c); !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestWhatIsAccepted(t *testing.T) {
	for _, c := range []struct {
		what string
		env  []string
		ok   func(c *config.Config) bool
	}{
		{"domains and an ACME server", with("TILLHOOK_TLS_DOMAIN=Pay.Haderer.example., hooks.haderer.example", "TILLHOOK_ACME_DIRECTORY=https://127.0.0.1:14000/dir"), func(c *config.Config) bool {
			return reflect.DeepEqual(c.TLS.Domains, []string{"pay.haderer.example", "hooks.haderer.example"}) && c.TLS.On() && c.TLS.Directory != ""
		}},
		{"proxies", with("TILLHOOK_TRUSTED_PROXIES=127.0.0.1, 10.1.2.3/8,::1"), func(c *config.Config) bool {
			return fmt.Sprint(c.TrustedProxies) == "[127.0.0.1/32 10.0.0.0/8 ::1/128]"
		}},
		{"several secrets", with("STRIPE_WEBHOOK_SECRET=whsec_a,whsec_b"), func(c *config.Config) bool {
			return reflect.DeepEqual(c.WebhookSecrets, []string{"whsec_a", "whsec_b"}) && len(c.Warnings) == 0
		}},
		{"the same secret twice", with("STRIPE_WEBHOOK_SECRET=whsec_a,whsec_a"), func(c *config.Config) bool {
			return len(c.WebhookSecrets) == 1 && len(c.Warnings) == 1
		}},
		{"white space and quotes", with("STRIPE_WEBHOOK_SECRET= \"whsec_a\", 'whsec_b'\n"), func(c *config.Config) bool {
			return reflect.DeepEqual(c.WebhookSecrets, []string{"whsec_a", "whsec_b"}) && len(c.Warnings) > 0
		}},
		{"a quoted key", with("STRIPE_SECRET_KEY=\"" + goodKey + "\" "), func(c *config.Config) bool {
			return c.SecretKey == goodKey && len(c.Warnings) == 1 && strings.Contains(c.Warnings[0], "STRIPE_SECRET_KEY")
		}},
		{"a mode and no key", with("STRIPE_SECRET_KEY=", "STRIPE_MODE=live"), func(c *config.Config) bool { return c.Livemode && c.SecretKey == "" }},
		{"a live key", with("STRIPE_SECRET_KEY=sk_live_x"), func(c *config.Config) bool { return c.Livemode }},
		{"a live key and its mode", with("STRIPE_SECRET_KEY=rk_live_x", "STRIPE_MODE=live"), func(c *config.Config) bool { return c.Livemode }},
		{"systemd's folders", with("STATE_DIRECTORY=/var/lib/tillhook:/x", "RUNTIME_DIRECTORY=/run/tillhook"), func(c *config.Config) bool {
			return c.DataDir == "/var/lib/tillhook" && c.OperatorSocket == "/run/tillhook/operator.sock"
		}},
		{"folders of one's own before systemd's", with("STATE_DIRECTORY=/var/lib/tillhook", "TILLHOOK_DATA_DIR=/d", "RUNTIME_DIRECTORY=/run/t", "TILLHOOK_OPERATOR_SOCKET=/s"), func(c *config.Config) bool {
			return c.DataDir == "/d" && c.OperatorSocket == "/s"
		}},
		{"the operator listener off", with("TILLHOOK_OPERATOR_LISTEN=off"), func(c *config.Config) bool { return c.OperatorListen == "" }},
		{"a path with a slash at its end", with("TILLHOOK_WEBHOOK_PATH=/hooks/"), func(c *config.Config) bool { return c.WebhookPath == "/hooks" }},
		{"the root path", with("TILLHOOK_WEBHOOK_PATH=/"), func(c *config.Config) bool { return c.WebhookPath == "/" }},
		{"days", with("TILLHOOK_RETENTION=30d"), func(c *config.Config) bool { return c.Retention == 720*time.Hour && len(c.Warnings) == 0 }},
		{"scheduled copies", with("TILLHOOK_BACKUP_DIR=/backup", "TILLHOOK_BACKUP_EVERY=6h", "TILLHOOK_BACKUP_KEEP=28"), func(c *config.Config) bool {
			return c.BackupDir == "/backup" && c.BackupEvery == 6*time.Hour && c.BackupKeep == 28
		}},
		{"days in words", with("TILLHOOK_RETENTION=90 days"), func(c *config.Config) bool { return c.Retention == 2160*time.Hour }},
		{"weeks", with("TILLHOOK_RETENTION=2w", "TILLHOOK_BACKUP_EVERY=1 week"), func(c *config.Config) bool {
			return c.Retention == 336*time.Hour && c.BackupEvery == 168*time.Hour
		}},
		{"a day", with("TILLHOOK_RETENTION=24h"), func(c *config.Config) bool { return c.Retention == 24*time.Hour }},
		{"less than a day, confirmed", with("TILLHOOK_RETENTION=3m!"), func(c *config.Config) bool { return c.Retention == 3*time.Minute }},
		{"more than a day, confirmed", with("TILLHOOK_RETENTION=2d!"), func(c *config.Config) bool { return c.Retention == 48*time.Hour }},
		{"no retention", with("TILLHOOK_RETENTION=0"), func(c *config.Config) bool { return c.Retention == 0 && len(c.Warnings) == 0 }},
		{"empty is unset", with("TILLHOOK_TOLERANCE=", "TILLHOOK_LISTN=", "STRIPE_MODE="), func(c *config.Config) bool { return c.Tolerance == 5*time.Minute }},
		{"json at debug", with("TILLHOOK_LOG_FORMAT=json", "TILLHOOK_LOG_LEVEL=debug"), func(c *config.Config) bool {
			return c.LogFormat == "json" && c.LogLevel == slog.LevelDebug
		}},
		{"an API on this machine", with("STRIPE_API_BASE=http://127.0.0.1:12111"), func(c *config.Config) bool { return c.StripeAPIBase.Host == "127.0.0.1:12111" }},
		{"a public URL", with("TILLHOOK_PUBLIC_URL=https://pay.haderer.example/webhooks/stripe"), func(c *config.Config) bool {
			return c.PublicURL.Host == "pay.haderer.example"
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			got, err := config.Load(c.env)
			if err != nil {
				t.Fatal(err)
			}
			if !c.ok(got) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// Each entry is an environment and the text that its only error must contain.
func TestFaults(t *testing.T) {
	const keyName, secretName = "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"
	for _, c := range []struct {
		env  []string
		says string
	}{
		{with(secretName + "="), `STRIPE_WEBHOOK_SECRET is not set: the signing secret starts with "whsec_" (Dashboard, Webhooks, your endpoint, Reveal)`},
		{with(secretName + "=we_1QbD7s"), `STRIPE_WEBHOOK_SECRET starts with "we_": that is the endpoint's id; the signing secret starts with "whsec_"`},
		{with(secretName + "=sk_test_1QbD7s"), `STRIPE_WEBHOOK_SECRET starts with "sk_": that is an API key`},
		{with(secretName + "=rk_live_1QbD7s"), `STRIPE_WEBHOOK_SECRET starts with "rk_": that is a restricted API key`},
		{with(secretName + "=pk_test_1QbD7s"), `STRIPE_WEBHOOK_SECRET starts with "pk_": that is a publishable key`},
		{with(secretName + "=Qm9va2Jp"), `STRIPE_WEBHOOK_SECRET does not start with "whsec_"`},
		{with(secretName + "=WHSEC_Qm9va2Jp"), `STRIPE_WEBHOOK_SECRET does not start with "whsec_"`},
		{with(secretName + "=whsec_"), `STRIPE_WEBHOOK_SECRET is "whsec_" without the rest`},
		{with(secretName + "= \" "), "STRIPE_WEBHOOK_SECRET contains no secret"},
		{with(secretName + "=whsec_Qm9va 2Jp"), "STRIPE_WEBHOOK_SECRET has white space or a character in it"},
		{with(secretName + "=whsec_Qm9va\nwhsec_2Jp"), "STRIPE_WEBHOOK_SECRET has white space or a character in it"},
		{with(secretName + "=whsec_a;whsec_b"), "STRIPE_WEBHOOK_SECRET has white space or a character in it"},
		{with(secretName + "=whsec_..."), "STRIPE_WEBHOOK_SECRET has white space or a character in it"},
		{with(keyName + "=sk_test_a,sk_test_b"), "STRIPE_SECRET_KEY is not a whole key"},
		{with("TILLHOOK_TOLERANCE=500ms"), "TILLHOOK_TOLERANCE is less than a second"},
		{with("TILLHOOK_OPERATOR_SOCKET=off"), "TILLHOOK_OPERATOR_SOCKET cannot be off"},
		{with(secretName + "=whsec_a,,whsec_b"), "STRIPE_WEBHOOK_SECRET, entry 2 of 3, is empty"},
		{with(secretName + "=whsec_a,we_b"), `STRIPE_WEBHOOK_SECRET, entry 2 of 2, starts with "we_"`},
		{with(keyName + "=sk_org_live_1QbD7s"), `STRIPE_SECRET_KEY starts with "sk_org": that is a key of an organization, which belongs to no account`},
		{with(keyName + "=sk_org1QbD7s"), `Use a restricted key of the account whose endpoint this is`},
		{with(keyName + "=pk_live_1QbD7s"), `STRIPE_SECRET_KEY starts with "pk_": that is a publishable key`},
		{with(keyName + "=sk_1QbD7s"), `STRIPE_SECRET_KEY starts with none of "sk_test_"`},
		{with(keyName + "=whsec_1QbD7s"), `STRIPE_SECRET_KEY starts with "whsec_": that is a signing secret, which belongs in STRIPE_WEBHOOK_SECRET`},
		{with(keyName + "=sk_test_"), "STRIPE_SECRET_KEY is not a whole key"},
		{with(keyName + "="), "STRIPE_MODE is not set, and neither is STRIPE_SECRET_KEY"},
		{with("STRIPE_MODE=live"), "STRIPE_MODE says live and STRIPE_SECRET_KEY is a test mode key"},
		{with("STRIPE_MODE=prod"), "STRIPE_MODE is neither test nor live"},
		{with("TILLHOOK_TOLERANCE=0"), "TILLHOOK_TOLERANCE is 0"},
		{with("TILLHOOK_TOLERANCE=0s"), "TILLHOOK_TOLERANCE is 0"},
		{with("TILLHOOK_TOLERANCE=-5m"), "TILLHOOK_TOLERANCE is negative"},
		{with("TILLHOOK_TOLERANCE=300"), "TILLHOOK_TOLERANCE is not a duration: write a number and its unit"},
		{with("TILLHOOK_TOLERANCE=25h"), "TILLHOOK_TOLERANCE is longer than a day"},
		{with("TILLHOOK_MAX_BODY=1MB"), "TILLHOOK_MAX_BODY is not a number of bytes"},
		{with("TILLHOOK_MAX_BODY=0"), "TILLHOOK_MAX_BODY is not a number of bytes"},
		{with("TILLHOOK_MAX_BODY=99999999999"), "TILLHOOK_MAX_BODY is not a number of bytes"},
		{with("TILLHOOK_LISTEN=8080"), "TILLHOOK_LISTEN is not host:port"},
		{with("TILLHOOK_LISTEN=127.0.0.1:99999"), "TILLHOOK_LISTEN has no port from 0 to 65535"},
		{with("TILLHOOK_OPERATOR_LISTEN=of"), "TILLHOOK_OPERATOR_LISTEN is not host:port"},
		{with("TILLHOOK_OPERATOR_LISTEN=127.0.0.1:8080"), "TILLHOOK_OPERATOR_LISTEN is the same as TILLHOOK_LISTEN"},
		{with("TILLHOOK_WEBHOOK_PATH=hooks"), "TILLHOOK_WEBHOOK_PATH does not start with a slash"},
		{with("TILLHOOK_WEBHOOK_PATH=//hooks"), "TILLHOOK_WEBHOOK_PATH has an empty or a dotted part"},
		{with("TILLHOOK_WEBHOOK_PATH=/healthz/"), "TILLHOOK_WEBHOOK_PATH is the path of the liveness check"},
		{with("TILLHOOK_OPERATOR_SOCKET=/" + strings.Repeat("s", 107)), "TILLHOOK_OPERATOR_SOCKET is longer than 107 bytes"},
		{with("TILLHOOK_DATA_DIR=/" + strings.Repeat("d", 107)), "TILLHOOK_OPERATOR_SOCKET is longer than 107 bytes"},
		{with("TILLHOOK_LOG_FORMAT=xml"), "TILLHOOK_LOG_FORMAT is neither text nor json"},
		{with("TILLHOOK_LOG_LEVEL=loud"), "TILLHOOK_LOG_LEVEL is not debug, info, warn or error"},
		{with("TILLHOOK_PUBLIC_URL=pay.haderer.example"), "TILLHOOK_PUBLIC_URL is not the URL of a webhook endpoint"},
		{with("TILLHOOK_PUBLIC_URL=https://pay.haderer.example/hook?version=2026-08-26"), "leave out the query (from ? on)"},
		{with("STRIPE_API_BASE=http://api.haderer.example"), "STRIPE_API_BASE is neither https nor on this machine"},
		{with("TILLHOOK_RETENTION=forever"), "TILLHOOK_RETENTION is not a duration"},
		{with("TILLHOOK_RETENTION=3m"), "TILLHOOK_RETENTION is 3m: the body of every event would be deleted that soon after it arrived: " +
			"3m is minutes; for months write days: 90d; if so short a time is intended, write 3m!"},
		{with("TILLHOOK_RETENTION=12h"), "TILLHOOK_RETENTION is 12h: the body of every event would be deleted that soon after it arrived: " +
			"write days, such as 90d; if so short a time is intended, write 12h!"},
		{with("TILLHOOK_RETENTION=1s"), "TILLHOOK_RETENTION is 1s: the body"},
		{with("TILLHOOK_RETENTION=3mo"), "TILLHOOK_RETENTION is not a duration: write a number and its unit: 90s, 15m, 24h, 90d, or 0; months and years are written in days: 90d"},
		{with("TILLHOOK_RETENTION=3 months"), "months and years are written in days: 90d"},
		{with("TILLHOOK_RETENTION=3 Months!"), "months and years are written in days: 90d"},
		{with("TILLHOOK_RETENTION=1y"), "months and years are written in days: 365d"},
		{with("TILLHOOK_RETENTION=1000 years"), "months and years are written in days"},
		{with("TILLHOOK_RETENTION=-3m"), "TILLHOOK_RETENTION is negative"},
		{with("TILLHOOK_RETENTION=65536d"), "TILLHOOK_RETENTION is not a duration"},
		{with("TILLHOOK_RETENTION=10000w"), "TILLHOOK_RETENTION is not a duration"},
		{with("TILLHOOK_RETENTION=!"), "TILLHOOK_RETENTION is not a duration"},
		{with("TILLHOOK_TOLERANCE=5m!"), "TILLHOOK_TOLERANCE is not a duration"},
		{with("TILLHOOK_RECONCILE_EVERY=30s"), "TILLHOOK_RECONCILE_EVERY is shorter than a minute"},
		{with("TILLHOOK_RECONCILE_EVERY=often"), "TILLHOOK_RECONCILE_EVERY is not a duration"},
		{with("TILLHOOK_BACKUP_KEEP=0"), "TILLHOOK_BACKUP_KEEP is not a number from 1"},
		{with("TILLHOOK_BACKUP_EVERY=1s"), "TILLHOOK_BACKUP_EVERY is shorter than a minute"},
		{with("TILLHOOK_TLS_DOMAIN=192.0.2.7"), "TILLHOOK_TLS_DOMAIN is an address"},
		{with("TILLHOOK_TLS_DOMAIN=*.haderer.example"), "TILLHOOK_TLS_DOMAIN has a wildcard"},
		{with("TILLHOOK_TLS_DOMAIN=https://pay.haderer.example/"), "TILLHOOK_TLS_DOMAIN is not a host name"},
		{with("TILLHOOK_TLS_DOMAIN=pay"), "TILLHOOK_TLS_DOMAIN is not a host name"},
		{with("TILLHOOK_TLS_CERT=/c"), "TILLHOOK_TLS_KEY is not set, and TILLHOOK_TLS_CERT is"},
		{with("TILLHOOK_TLS_KEY=/c"), "TILLHOOK_TLS_CERT is not set, and TILLHOOK_TLS_KEY is"},
		{with("TILLHOOK_TLS_CERT=/nowhere/c", "TILLHOOK_TLS_KEY=/nowhere/k"), "TILLHOOK_TLS_CERT names a file that cannot be read (no such file"},
		{with("TILLHOOK_TLS_CERT=config_test.go", "TILLHOOK_TLS_KEY=config_test.go"), "TILLHOOK_TLS_CERT and TILLHOOK_TLS_KEY do not belong together"},
		{with("TILLHOOK_TLS_CERT=/c", "TILLHOOK_TLS_DOMAIN=pay.haderer.example"), "TILLHOOK_TLS_DOMAIN is set, and so is TILLHOOK_TLS_CERT"},
		{with("TILLHOOK_ACME_DIRECTORY=https://acme.haderer.example/dir"), "TILLHOOK_TLS_DOMAIN is not set, and TILLHOOK_ACME_DIRECTORY"},
		{with("TILLHOOK_TLS_DOMAIN=pay.haderer.example", "TILLHOOK_ACME_DIRECTORY=http://acme.haderer.example/dir"), "TILLHOOK_ACME_DIRECTORY is not an https URL"},
		{with("TILLHOOK_TLS_DOMAIN=pay.haderer.example", "TILLHOOK_ACME_CA=config_test.go"), "TILLHOOK_ACME_CA names a file that cannot be used (it holds no certificate"},
		{with("TILLHOOK_ALLOW_STRIPE_IPS=yes"), "TILLHOOK_ALLOW_STRIPE_IPS is neither on nor off"},
		{with("TILLHOOK_TRUSTED_PROXIES=nginx"), "TILLHOOK_TRUSTED_PROXIES has an entry that is neither an address"},
		{with("TILLHOOK_TRUSTED_PROXIES=0.0.0.0/0"), "TILLHOOK_TRUSTED_PROXIES trusts every address"},
		{with("TILLHOOK_RELAY_URL=http://127.0.0.1:3000"), "TILLHOOK_RELAY_URL configures the relay"},
		{with("TILLHOOK_LISTN=:1"), "TILLHOOK_LISTN is not a variable of tillhook: did you mean TILLHOOK_LISTEN?"},
		{with("TILLHOOK_SECRET=whsec_x"), "TILLHOOK_SECRET is not a variable of tillhook: did you mean"},
	} {
		t.Run(c.says, func(t *testing.T) {
			_, err := config.Load(c.env)
			var faults config.Faults
			if !errors.As(err, &faults) {
				t.Fatalf("got %v", err)
			}
			if len(faults) != 1 || !strings.Contains(faults[0].String(), c.says) {
				t.Errorf("got %v", err)
			}
			silent(t, c.env, err.Error())
		})
	}
}

// silent checks that a message contains no secret of the environment, nor a part of one.
func silent(t *testing.T, env []string, message string) {
	t.Helper()
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "STRIPE_") && !strings.Contains(name, "SECRET") {
			continue
		}
		for _, part := range strings.FieldsFunc(value, func(c rune) bool { return strings.ContainsRune(" ,\"'\n_", c) }) {
			if len(part) > 5 && strings.Contains(message, part) {
				t.Errorf("%q of %s is printed in %q", part, name, message)
			}
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	env := []string{"STRIPE_WEBHOOK_SECRET=we_1QbD7sSecret", "STRIPE_SECRET_KEY=pk_live_1QbD7sSecret", "TILLHOOK_TOLERANCE=0",
		"TILLHOOK_LISTN=x", "TILLHOOK_MAX_BODY=many", "TILLHOOK_LOG_LEVEL=loud"}
	_, err := config.Load(env)
	var faults config.Faults
	if !errors.As(err, &faults) || len(faults) != len(env) {
		t.Fatalf("want %d faults, got %v", len(env), err)
	}
	if !strings.HasPrefix(err.Error(), "the configuration has 6 errors:\n  TILLHOOK_LISTN is not") {
		t.Errorf("the text is %q", err)
	}
	silent(t, env, err.Error())
}

func TestSecretsFromFilesAndCredentials(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := put("secret", goodSecret+"\n", 0o600)
	loose := put("loose", goodSecret+"\n", 0o644)
	padded := put("padded", " "+goodSecret+"\n\n", 0o600)
	empty := put("empty", "", 0o600)
	large := put("large", strings.Repeat("x", 70000), 0o600)
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	credentials := filepath.Join(dir, "credentials")
	if err := os.Mkdir(credentials, 0o700); err != nil {
		t.Fatal(err)
	}
	put("credentials/stripe_webhook_secret", goodSecret+"\r\n", 0o400)
	put("credentials/stripe_secret_key", "rk_live_x", 0o444)
	hollow := filepath.Join(dir, "hollow")
	if err := os.Mkdir(hollow, 0o700); err != nil {
		t.Fatal(err)
	}
	put("hollow/stripe_webhook_secret", "\n", 0o400)
	mode := "STRIPE_MODE=test"

	for _, c := range []struct {
		what     string
		env      []string
		warnings int
		says     string // of the fault; empty for none
	}{
		{"a file", []string{mode, "STRIPE_WEBHOOK_SECRET_FILE=" + file}, 0, ""},
		{"a file everybody reads", []string{mode, "STRIPE_WEBHOOK_SECRET_FILE=" + loose}, 1, ""},
		{"a padded file", []string{mode, "STRIPE_WEBHOOK_SECRET_FILE=" + padded}, 1, ""},
		{"credentials", []string{"CREDENTIALS_DIRECTORY=" + credentials}, 0, ""},
		{"no credential of that name", []string{mode, "STRIPE_WEBHOOK_SECRET=" + goodSecret, "CREDENTIALS_DIRECTORY=" + dir}, 0, ""},
		{"value and file", []string{mode, "STRIPE_WEBHOOK_SECRET=" + goodSecret, "STRIPE_WEBHOOK_SECRET_FILE=" + file}, 0,
			"STRIPE_WEBHOOK_SECRET comes from STRIPE_WEBHOOK_SECRET and STRIPE_WEBHOOK_SECRET_FILE"},
		{"a blank credential counts as absent", []string{mode, "STRIPE_WEBHOOK_SECRET=" + goodSecret, "CREDENTIALS_DIRECTORY=" + hollow}, 0, ""},
		{"file and credential", []string{"STRIPE_WEBHOOK_SECRET_FILE=" + file, "CREDENTIALS_DIRECTORY=" + credentials}, 0,
			"STRIPE_WEBHOOK_SECRET comes from STRIPE_WEBHOOK_SECRET_FILE and the credential stripe_webhook_secret"},
		{"no such file", []string{mode, "STRIPE_WEBHOOK_SECRET_FILE=" + dir + "/none"}, 0,
			"STRIPE_WEBHOOK_SECRET_FILE names a file that cannot be used (no such file or directory)"},
		{"a pipe", []string{mode, "STRIPE_WEBHOOK_SECRET_FILE=" + pipe}, 0, "STRIPE_WEBHOOK_SECRET_FILE names a file that cannot be used (not a regular file)"},
		{"a folder", []string{mode, "STRIPE_WEBHOOK_SECRET_FILE=" + dir}, 0, "STRIPE_WEBHOOK_SECRET_FILE names a file that cannot be used (not a regular file)"},
		{"an empty file", []string{mode, "STRIPE_WEBHOOK_SECRET_FILE=" + empty}, 0, "STRIPE_WEBHOOK_SECRET_FILE contains no secret"},
		{"a large file", []string{mode, "STRIPE_WEBHOOK_SECRET_FILE=" + large}, 0, "STRIPE_WEBHOOK_SECRET_FILE names a file that cannot be used (too large for a secret)"},
	} {
		t.Run(c.what, func(t *testing.T) {
			got, err := config.Load(c.env)
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.WebhookSecrets, []string{goodSecret}) || len(got.Warnings) != c.warnings {
				t.Errorf("got %d secrets and the warnings %q", len(got.WebhookSecrets), got.Warnings)
			}
			silent(t, []string{"STRIPE_WEBHOOK_SECRET=" + goodSecret}, fmt.Sprint(got.Warnings))
		})
	}
}

func TestPlacesNeedNoConfiguration(t *testing.T) {
	s, err := config.Find([]string{"TILLHOOK_DATA_DIR=/d", "TILLHOOK_NONSENSE=1"}, t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if sockets := s.SocketPaths(); s.DataDir() != "/d" || len(sockets) != 1 || sockets[0].Path != "/d/operator.sock" {
		t.Errorf("got %s and %v", s.DataDir(), sockets)
	}
}

// For a log that records the time of each line itself, a text line has no time, and a JSON record
// has it for the programs that read it.
func TestUndatedLines(t *testing.T) {
	for format, want := range map[string]string{"text": "level=INFO msg=hello time=noon\n", "json": `{"time":"`} {
		c, err := config.Load([]string{"STRIPE_WEBHOOK_SECRET=" + goodSecret, "STRIPE_MODE=test", "TILLHOOK_LOG_FORMAT=" + format})
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		slog.New(c.UndatedHandler(&out)).Info("hello", "time", "noon")
		if !strings.HasPrefix(out.String(), want) && format == "json" || out.String() != want && format == "text" {
			t.Errorf("%s: it wrote %q, want %q", format, out.String(), want)
		}
	}
}
