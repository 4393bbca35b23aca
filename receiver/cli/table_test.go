package cli

import (
	"slices"
	"testing"
)

// A table leaves out what it can spare before it cuts what is left.
func TestATableFitsTheTerminal(t *testing.T) {
	columns := []column{{head: "A"}, {head: "B", spare: true}, {head: "C", cut: true}, {head: "D", spare: true}}
	for _, c := range []struct {
		width int // of the terminal
		want  []int
	}{
		{0, []int{10, 20, 30, 5}}, // no terminal
		{71, []int{10, 20, 30, 5}},
		{70, []int{10, 20, 30, -1}},
		{64, []int{10, 20, 30, -1}},
		{63, []int{10, -1, 30, -1}},
		{42, []int{10, -1, 30, -1}},
		{40, []int{10, -1, 28, -1}},
		{20, []int{10, -1, 8, -1}},
		{5, []int{10, -1, 8, -1}},
	} {
		if got := fit(columns, []int{10, 20, 30, 5}, c.width); !slices.Equal(got, c.want) {
			t.Errorf("at %d columns the widths are %v, want %v", c.width, got, c.want)
		}
	}
	if got := shorten("größeres", 5); got != "größ…" {
		t.Errorf("cut to 5 characters: %q", got)
	}
}
