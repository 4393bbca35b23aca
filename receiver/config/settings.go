package config

import "iter"

// setting declares one environment variable. Loading, the reference, the manual page and the
// command "tillhook config" all come from this declaration.
type setting struct {
	name   string
	preset string // the value that applies while the variable is not set
	unset  string // if there is no such value: what applies instead, in Markdown
	help   string // in Markdown, one line
	secret bool   // may also come from NAME_FILE or a systemd credential, and is never printed
	// read parses the value into the reader's Config, or adds errors. A secret has no value here:
	// its function finds the source.
	read func(r *reader, name, value string)
}

// group is a part of the table under its heading in the reference.
type group struct {
	title    string
	settings []setting
}

// Names of variables that are mentioned in more than one place.
const (
	webhookSecretName  = "STRIPE_WEBHOOK_SECRET"
	secretKeyName      = "STRIPE_SECRET_KEY"
	modeName           = "STRIPE_MODE"
	apiBaseName        = "STRIPE_API_BASE"
	publicURLName      = "TILLHOOK_PUBLIC_URL"
	listenName         = "TILLHOOK_LISTEN"
	pathName           = "TILLHOOK_WEBHOOK_PATH"
	operatorListenName = "TILLHOOK_OPERATOR_LISTEN"
	operatorSocketName = "TILLHOOK_OPERATOR_SOCKET"
	dataDirName        = "TILLHOOK_DATA_DIR"
	retentionName      = "TILLHOOK_RETENTION"
	backupDirName      = "TILLHOOK_BACKUP_DIR"
	backupEveryName    = "TILLHOOK_BACKUP_EVERY"
	backupKeepName     = "TILLHOOK_BACKUP_KEEP"
	domainName         = "TILLHOOK_TLS_DOMAIN"
	certName           = "TILLHOOK_TLS_CERT"
	keyName            = "TILLHOOK_TLS_KEY"
	directoryName      = "TILLHOOK_ACME_DIRECTORY"
	caName             = "TILLHOOK_ACME_CA"
)

// table declares every setting. Settings are read, and their errors reported, in this order; one
// that is checked against another comes after it.
var table = []group{
	{"Stripe", []setting{
		{name: webhookSecretName, unset: "required", secret: true, read: (*reader).webhookSecrets,
			help: "signing secret of the endpoint, `whsec_…`; several, separated by commas, while one is being rolled"},
		{name: secretKeyName, unset: "this or `STRIPE_MODE`", secret: true, read: (*reader).secretKey,
			help: "API key of the endpoint's account, `sk_…` or, better, `rk_…`. It sets the mode. With it, missed events are fetched and the " +
				"endpoint is watched. A key of an organization (`sk_org_…`) is refused"},
		{name: modeName, unset: "from the key", read: (*reader).mode,
			help: "`test` or `live`. A ledger is bound to the mode in which it was created; events of the other mode are quarantined"},
		{name: apiBaseName, unset: "Stripe's", read: (*reader).apiBase,
			help: "another address of Stripe's API: https, or on this machine"},
		{name: publicURLName, unset: "from `TILLHOOK_TLS_DOMAIN`", read: (*reader).publicURL,
			help: "URL of the endpoint at Stripe, without a query"},
		{name: "TILLHOOK_RECONCILE_EVERY", preset: "15m", read: (*reader).reconcileEvery,
			help: "how often the ledger is compared with Stripe's list of events; `0` for never. It needs the API key"},
	}},
	{"Webhook listener", []setting{
		{name: listenName, preset: "127.0.0.1:8080", read: func(r *reader, name, value string) { r.config.Listen = r.address(name, value) },
			help: "address of the webhook listener. The packaged service gets its sockets from systemd, where this only says where commands find it"},
		{name: pathName, preset: "/webhooks/stripe", read: (*reader).path,
			help: "path of the endpoint, with or without a slash at its end"},
		{name: "TILLHOOK_TOLERANCE", preset: "5m", read: (*reader).tolerance,
			help: "largest difference between a signature's time and this machine's clock, in either direction"},
		{name: "TILLHOOK_MAX_BODY", preset: "1048576", read: (*reader).maxBody,
			help: "largest body in bytes"},
		{name: "TILLHOOK_ALLOW_STRIPE_IPS", preset: "off", read: (*reader).stripeIPs,
			help: "`on` accepts deliveries only from Stripe's published addresses of 2026-05-15; a path names a newer " +
				"[list](https://stripe.com/files/ips/ips_webhooks.txt), which a reload reads again"},
		{name: "TILLHOOK_TRUSTED_PROXIES", unset: "none", read: (*reader).trustedProxies,
			help: "addresses and networks whose `X-Forwarded-For` is believed. A proxy that connects to a unix socket is always believed"},
	}},
	{"TLS", []setting{
		{name: domainName, unset: "off", read: (*reader).domains,
			help: "obtain and renew a certificate for this name, or several separated by commas, by ACME"},
		{name: directoryName, unset: "Let's Encrypt", read: (*reader).directory,
			help: "URL of another ACME server's directory"},
		{name: caName, unset: "system roots", read: (*reader).roots,
			help: "PEM file with the root certificate of that ACME server"},
		{name: certName, unset: "off", read: func(r *reader, _, value string) { r.config.TLS.CertFile = value },
			help: "PEM file with a certificate and its chain, instead of ACME; read again when it changes"},
		{name: keyName, unset: "off", read: (*reader).certificate,
			help: "PEM file with that certificate's private key"},
	}},
	{"Operator", []setting{
		{name: operatorListenName, preset: "127.0.0.1:9464", read: (*reader).operatorListen,
			help: "address of `/metrics`, `/healthz` and `/readyz`; everything else there is answered 401. `off` closes it"},
		{name: operatorSocketName, unset: "`$RUNTIME_DIRECTORY/operator.sock`, else in the data folder", read: (*reader).operatorSocket,
			help: "unix socket of mode 0660 with the JSON API, without a login; commands look for a receiver there"},
	}},
	{"Ledger", []setting{
		{name: dataDirName, unset: "`$STATE_DIRECTORY`, else `./tillhook-data`", read: func(*reader, string, string) {}, // see places
			help: "folder with `ledger.db`; the packaged service's is `/var/lib/tillhook`"},
		{name: retentionName, preset: "90d", read: (*reader).retention,
			help: "how long raw bodies are kept, in days (`90d`, `90 days`, `2w`); ids and what the bodies said are kept permanently. " +
				"`0` keeps everything. Less than a day needs an exclamation mark (`12h!`), because `3m` is three minutes"},
		{name: backupDirName, unset: "off", read: (*reader).backupDir,
			help: "folder for scheduled, verified copies of the ledger. Receivers can share it: each deletes only copies of its own ledger"},
		{name: backupEveryName, preset: "24h", read: (*reader).backupEvery,
			help: "how often a copy is made"},
		{name: backupKeepName, preset: "7", read: (*reader).backupKeep,
			help: "how many of the newest copies are kept"},
	}},
	{"Log", []setting{
		{name: "TILLHOOK_LOG_FORMAT", preset: "text", read: (*reader).logFormat,
			help: "`text` or `json`, to standard error. In the journal each line has its priority, and a text line has no time of its own"},
		{name: "TILLHOOK_LOG_LEVEL", preset: "info", read: (*reader).logLevel,
			help: "`debug`, `info`, `warn` or `error`; `debug` says which secret matched"},
	}},
}

// settings yields the settings of all groups.
func settings() iter.Seq[*setting] {
	return func(yield func(*setting) bool) {
		for _, g := range table {
			for i := range g.settings {
				if !yield(&g.settings[i]) {
					return
				}
			}
		}
	}
}
