package stripe_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tillhook/receiver/stripe"
)

func TestBuiltInAddresses(t *testing.T) {
	list, day, err := stripe.Addresses("on")
	if err != nil || len(list) != 15 || list[0] != netip.MustParsePrefix("3.18.12.63/32") {
		t.Errorf("got %v, %v", list, err)
	}
	if _, err := time.Parse(time.DateOnly, day); err != nil {
		t.Errorf("they are as of %q", day)
	}
}

func TestAddressesFromAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses")
	for _, c := range []struct{ text, want string }{
		{"3.18.12.63\r\n# a word\n\n 10.1.2.3/8 \n2001:db8::1\n", "3.18.12.63/32 10.0.0.0/8 2001:db8::1/128"},
		{`{"WEBHOOKS":["3.18.12.63","3.130.192.231"]}`, "3.18.12.63/32 3.130.192.231/32"},
		{"::ffff:3.18.12.63", "3.18.12.63/32"},
		{"", "it contains no address"},
		{"# nothing\n", "it contains no address"},
		{`{"API":["3.18.12.63"]}`, "it contains no address"},
		{"3.18.12.63\n<html>\n", "entry 2 is neither an address nor a network"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		list, from, err := stripe.Addresses(path)
		var texts []string
		for _, p := range list {
			texts = append(texts, p.String())
		}
		if got := strings.Join(texts, " "); err == nil && (got != c.want || from != path) || err != nil && err.Error() != c.want {
			t.Errorf("%q: got %s, %v, want %s", c.text, got, err, c.want)
		}
	}
	if _, _, err := stripe.Addresses(path + "-none"); err == nil {
		t.Error("a list that is not there was read")
	}
}
