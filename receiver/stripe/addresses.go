package stripe

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// published are the addresses that Stripe delivers webhooks from. The first line is the day of the
// list. Stripe announces changes a week ahead.
// https://docs.stripe.com/ips
// https://stripe.com/files/ips/ips_webhooks.txt
//
//go:embed ips_webhooks.txt
var published string

// Addresses returns the addresses that Stripe delivers from: the built-in list for "on", otherwise
// the list in the file named by from. asOf is the day of the built-in list (2026-05-15) or the name
// of the file.
func Addresses(from string) (list []netip.Prefix, asOf string, err error) {
	if from != "on" {
		text, err := os.ReadFile(from)
		if err != nil {
			return nil, "", err
		}
		list, err = parseAddresses(string(text))
		return list, from, err
	}
	day, _, _ := strings.Cut(published, "\n")
	list, err = parseAddresses(published)
	return list, strings.TrimPrefix(day, "# "), err
}

// parseAddresses parses a list in one of the forms that Stripe publishes: one address or network
// per line with # comments, or JSON. An empty list is an error.
func parseAddresses(text string) (list []netip.Prefix, err error) {
	lines := strings.Split(text, "\n")
	var document struct {
		Webhooks []string `json:"WEBHOOKS"`
	}
	if json.Unmarshal([]byte(text), &document) == nil {
		lines = document.Webhooks
	}
	for i, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		prefix, err := netip.ParsePrefix(line)
		if addr, addrErr := netip.ParseAddr(line); addrErr == nil {
			prefix, err = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("entry %d is neither an address nor a network", i+1)
		}
		list = append(list, prefix.Masked())
	}
	if len(list) == 0 {
		return nil, errors.New("it contains no address")
	}
	return list, nil
}
