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

// published are the addresses that Stripe says it delivers webhooks from, with the day they were taken over on as the first line.
// Stripe tells of changes a week before. https://docs.stripe.com/ips, https://stripe.com/files/ips/ips_webhooks.txt
//
//go:embed ips_webhooks.txt
var published string

// Addresses are those that Stripe delivers from: as this version knows them ("on"), or as a file of that path lists them. asOf
// tells the day (2026-05-15), or the file.
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

// parseAddresses reads a list of addresses or networks as Stripe publishes it: one a line, with lines that begin with # left out, or
// the JSON form. No list is empty.
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
			return nil, fmt.Errorf("entry %d is no address and no network", i+1)
		}
		list = append(list, prefix.Masked())
	}
	if len(list) == 0 {
		return nil, errors.New("no address is in it")
	}
	return list, nil
}
