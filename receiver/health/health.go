// Package health is the vocabulary in which every part of the receiver reports its state: a
// [Finding] is one statement about one thing, with a severity and the next step. The operator API,
// the doctor command and the metrics show the same findings.
//
// The package knows nothing of what it describes and imports none of the other packages.
package health

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// Severity grades a finding.
type Severity string

// The severities. Only examinations from outside (tillhook doctor, the comparison with Stripe) use
// [Unknown]; it does not make a status worse.
const (
	OK      Severity = "ok"
	Warn    Severity = "warn"    // needs attention, but no event is being lost
	Fail    Severity = "fail"    // events are being lost or refused, or will be
	Unknown Severity = "unknown" // could not be determined
)

// Finding describes the state of one thing.
type Finding struct {
	Code     Code
	Severity Severity
	Message  string // one or more complete sentences
	Next     string // the next step; empty if there is nothing to do
	Since    int64  // the time since which the finding has stood, in Unix seconds; 0 if unknown
}

// MarshalJSON writes an empty Next and an unknown Since as null.
func (f Finding) MarshalJSON() ([]byte, error) {
	out := struct {
		Code     Code     `json:"code"`
		Severity Severity `json:"severity"`
		Message  string   `json:"message"`
		Next     *string  `json:"next"`
		Since    *int64   `json:"since"`
	}{Code: f.Code, Severity: f.Severity, Message: f.Message}
	if f.Next != "" {
		out.Next = &f.Next
	}
	if f.Since != 0 {
		out.Since = &f.Since
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false) // the outer encoder escapes if it should
	err := enc.Encode(out)
	return text.Bytes(), err
}

// Report is a list of findings with the worst severity among them.
type Report struct {
	Status   Severity  `json:"status"` // ok, warn or fail
	Findings []Finding `json:"findings"`
}

// NewReport returns a report of findings, whose severity is set to their worst.
func NewReport(findings []Finding) Report {
	return Report{Status: Worst(findings), Findings: findings}
}

// Worst returns the worst severity of findings: fail, warn or ok. It ignores [Unknown].
func Worst(findings []Finding) Severity {
	for _, s := range []Severity{Fail, Warn} {
		if slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == s }) {
			return s
		}
	}
	return OK
}

// Board remembers the present findings and since when each has had its severity. It learns of
// findings only through Update, so a time can be late by the interval between two calls, and a
// restart forgets all times. The zero Board is ready to use.
type Board struct {
	mu    sync.Mutex // guards what follows
	since map[findingKey]int64
	worst map[string]string // see Severities
}

// findingKey identifies a finding between two calls of [Board.Update].
type findingKey struct {
	code     Code
	severity Severity
}

// Update sets Since of each finding whose Since is 0 to the time of the first call, in an unbroken
// series of calls up to this one, that contained the code with the same severity. It publishes the
// severities for the metrics. findings must be complete.
func (b *Board) Update(findings []Finding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now().Unix()
	next := make(map[findingKey]int64, len(findings))
	byCode := map[string][]Finding{}
	for i := range findings {
		f := &findings[i]
		key := findingKey{f.Code, f.Severity}
		at, ok := b.since[key]
		if !ok {
			at = now
		}
		next[key] = at
		byCode[string(f.Code)] = append(byCode[string(f.Code)], *f)
		if f.Since == 0 {
			f.Since = at
		}
	}
	b.since, b.worst = next, map[string]string{}
	for code, list := range byCode {
		b.worst[code] = string(Worst(list))
	}
}

// Severities returns the worst severity of each code in the last call of Update. The caller must
// not modify the map.
func (b *Board) Severities() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.worst
}
