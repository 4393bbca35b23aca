package health

// Code identifies what a finding is about. Codes are part of the API: they are never renamed.
type Code string

// What a running receiver reports about itself.
const (
	Storage         Code = "storage"          // whether the ledger can be written
	Quarantine      Code = "quarantine"       // events that could not be used
	Conflicts       Code = "conflicts"        // payments whose figures contradict each other
	ReceivedUnknown Code = "received_unknown" // events that state the received amounts do not arrive
	Retention       Code = "retention"        // deletion of old bodies is slowed by a jump of the clock
	Backups         Code = "backups"          // the last scheduled backup
	Proof           Code = "proof"            // the last verification of a copy of the ledger
	Signatures      Code = "signatures"       // deliveries with invalid signatures
	Addresses       Code = "addresses"        // deliveries refused by TILLHOOK_ALLOW_STRIPE_IPS
	Rotation        Code = "rotation"         // which of several signing secrets are in use
	Deliveries      Code = "deliveries"       // the time since the last delivery
	Log             Code = "log"              // dropped log lines
	OperatorPort    Code = "operator_port"    // the TCP port for metrics and health
	OperatorSocket  Code = "operator_socket"  // the unix socket of the operator API
	Reload          Code = "reload"           // the last reload of the configuration
	Certificate     Code = "certificate"      // the TLS certificates of the webhook listener
)

// What the comparison with Stripe reports. The doctor command reports the endpoint's codes, too.
const (
	Reconcile          Code = "reconcile"            // the last comparison of Stripe's events with the ledger
	ReconcileAccounts  Code = "reconcile_accounts"   // connected accounts that are not compared
	ReconcileBudget    Code = "reconcile_budget"     // the API calls allowed per day
	ReconcileGap       Code = "reconcile_gap"        // a time for which Stripe no longer lists events
	APIAccount         Code = "api_account"          // whether the API key belongs to the endpoint's account
	Clock              Code = "clock"                // this machine's clock compared with Stripe's
	Endpoint           Code = "endpoint"             // whether Stripe has an endpoint for this receiver
	EndpointEnabled    Code = "endpoint_enabled"     // whether Stripe delivers to it
	EndpointMode       Code = "endpoint_mode"        // live or test mode
	EndpointTypes      Code = "endpoint_types"       // the event types sent to it
	EndpointVersion    Code = "endpoint_api_version" // the API version of its events
	EndpointDuplicates Code = "endpoint_duplicates"  // other endpoints of the same URL
	EndpointSimilar    Code = "endpoint_similar"     // an endpoint whose URL is nearly the same
	EndpointScheme     Code = "endpoint_scheme"      // http instead of https
	EndpointCount      Code = "endpoint_count"       // the number of endpoints of the account
	EndpointPayload    Code = "endpoint_payload"     // snapshot or thin payloads
	EndpointScope      Code = "endpoint_scope"       // own events or those of connected accounts
)

// What only the doctor command reports.
const (
	Environment    Code = "environment"      // the configuration
	SigningSecret  Code = "signing_secret"   // the kind of the signing secrets
	APIKey         Code = "api_key"          // the kind of the API key
	Receiver       Code = "receiver"         // whether a receiver runs and answers
	ReceiverMode   Code = "receiver_mode"    // whether its mode is the configured one
	Refusals       Code = "refusals"         // requests refused since its start
	DataDir        Code = "data_dir"         // the data directory's owner and permissions
	Disk           Code = "disk"             // free space for the ledger
	Ledger         Code = "ledger"           // whether the ledger can be opened, if no receiver runs
	DeletedLedger  Code = "deleted_ledger"   // a copy of a ledger that was deleted while in use
	PublicPort     Code = "public_port"      // the listener for webhooks
	API            Code = "api"              // whether Stripe's API accepts the key
	APIPermissions Code = "api_permissions"  // the key's permissions
	APIConnect     Code = "api_connect"      // the key's access to connected accounts
	PublicURL      Code = "public_url"       // the URL that Stripe delivers to
	DNS            Code = "dns"              // its host name
	TLS            Code = "tls"              // its certificate
	Inside         Code = "inside"           // a signed request to the listener on this machine
	OutsideIn      Code = "outside_in"       // a signed request to the public URL
	OutsideInLarge Code = "outside_in_large" // the same with a large body
)
