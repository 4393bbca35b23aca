package systemd

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const (
	// stateTime bounds a query of the states of units.
	stateTime = 10 * time.Second
	// changeTime bounds stopping or starting units; the unit itself bounds its stop.
	changeTime = 2 * time.Minute
)

// UnitStates returns the states of units: active, inactive, failed, activating and others.
func UnitStates(ctx context.Context, units ...string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTime)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "systemctl", append([]string{"is-active", "--"}, units...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output() // its exit status says whether all of them are active
	lines := strings.Fields(string(out))
	if len(lines) != len(units) {
		return nil, fmt.Errorf("systemctl is-active: %w: %.200s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	states := map[string]string{}
	for i, unit := range units {
		states[unit] = lines[i]
	}
	return states, nil
}

// ChangeUnits starts or stops units, as verb says, and waits until that is done.
func ChangeUnits(ctx context.Context, verb string, units ...string) error {
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", append([]string{"--no-ask-password", verb, "--"}, units...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s %s: %w: %.500s", verb, strings.Join(units, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
