package doctor_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"testing"

	"tillhook/receiver/config"
	"tillhook/receiver/doctor"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
)

// examine examines a machine without a receiver.
func examine(t *testing.T, offline bool, environ ...string) doctor.Result {
	t.Helper()
	t.Chdir(t.TempDir())
	settings, err := config.Find(append(environ, "TILLHOOK_LISTEN=127.0.0.1:0", "TILLHOOK_OPERATOR_LISTEN=off"), t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	return doctor.Examine(t.Context(), doctor.Options{Settings: settings, Version: "v0.0.0", Offline: offline, StartAdvice: "start one", Waiting: func(string) {},
		FindReceiver: func(context.Context) (*operator.Client, []string, error) { return nil, []string{"a socket"}, nil },
		Get: func(context.Context, *operator.Client, string, url.Values) ([]byte, error) {
			return nil, errors.New("there is no receiver")
		},
		UnitStates: func(context.Context, ...string) (map[string]string, error) {
			return nil, errors.New("there is no unit")
		},
	})
}

// codes returns the codes of a severity, in order.
func codes(r doctor.Result, severity health.Severity) (list []health.Code) {
	for _, f := range r.Findings {
		if f.Severity == severity {
			list = append(list, f.Code)
		}
	}
	return list
}

// A check whose needs are not met is unknown, with the reason and the next step, or left out if
// another finding says why.
func TestChecksThatAreNotRun(t *testing.T) {
	needStripe := []health.Code{health.API, health.Clock, health.APIPermissions, health.Endpoint, health.EndpointPayload}
	for name, c := range map[string]struct {
		offline       bool
		environ       []string
		fail          []health.Code
		unknown       []health.Code
		next          string // of the checks that need Stripe
		misconfigured bool
	}{
		"no configuration": {false, nil, []health.Code{health.Environment, health.Environment, health.Receiver},
			needStripe, "see the finding on the environment", true},
		"no key": {false, []string{"STRIPE_WEBHOOK_SECRET=whsec_secret", "STRIPE_MODE=test"}, []health.Code{health.Receiver},
			slices.Concat([]health.Code{health.APIKey}, needStripe, []health.Code{health.PublicURL}), "see the finding on the API key", false},
		"offline": {true, []string{"STRIPE_WEBHOOK_SECRET=whsec_secret", "STRIPE_SECRET_KEY=rk_test_key", "TILLHOOK_PUBLIC_URL=https://shop.example/hook"},
			[]health.Code{health.Receiver}, slices.Concat(needStripe, []health.Code{health.OutsideIn}), "leave out --offline to ask it", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := examine(t, c.offline, c.environ...)
			if got := codes(r, health.Fail); !slices.Equal(got, c.fail) || r.Misconfigured != c.misconfigured {
				t.Errorf("%v fail, misconfigured: %t", got, r.Misconfigured)
			}
			if got := codes(r, health.Unknown); !slices.Equal(got, c.unknown) {
				t.Errorf("%v are unknown, want %v", got, c.unknown)
			}
			for _, f := range r.Findings {
				if slices.Contains(needStripe, f.Code) && f.Next != c.next || f.Severity != health.OK && f.Next == "" {
					t.Errorf("the next step of %s is %q", f.Code, f.Next)
				}
			}
		})
	}
}
