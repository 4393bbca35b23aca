package main

const (
	exportGo        = "ledger/export.go"
	exportedGo      = "ledger/export_payments.go"
	entriesGo       = "ledger/entries.go"
	lineGo          = "ledger/line.go"
	pastGo          = "ledger/past.go"
	sorterGo        = "ledger/sorter.go"
	escapeGo        = "ledger/escape.go"
	timezoneGo      = "ledger/timezone.go"
	cliGo           = "receiver/cli/cli.go"
	exportCommandGo = "receiver/cli/export.go"
	operatorExport  = "receiver/operator/export.go"
)

// Tests of exports of an earlier state, and of exports during which events arrive.
const (
	pastTest   = "TestExportAsOfIsReproducible"
	besideTest = "TestExportDuringAppends"
)

// exportMutations break the rules of exports, days and escaping.
var exportMutations = []mutation{
	{"export: no formulas", lineGo, "	if s != \"\" && strings.ContainsRune(", "	if false && strings.ContainsRune(", "./ledger", "TestExportHasNoFormulas"},
	{"export: no formulas behind a semicolon", lineGo, "	if !strings.Contains(s, \";\") {", "	if true {", "./ledger", "TestExportHasNoFormulas"},
	{"export: no formulas behind quotes", lineGo, "strings.TrimLeft(part, `\" `)", "part", "./ledger", "TestExportHasNoFormulas"},
	{"export: nothing in a table that a terminal obeys", lineGo, "noFormula(Escape(string(c)))", "noFormula(string(c))", "./ledger", "TestExportHasNoFormulas"},
	{"export: nothing in JSON that a terminal obeys", lineGo, "escape(strings.TrimSuffix(b.String(), \"\\n\"), \"\\t\")", "strings.TrimSuffix(b.String(), \"\\n\")", "./ledger", "TestExportHasNoFormulas"},
	{"export: lines end as RFC 4180 says", lineGo, "f.csv.UseCRLF = true", "f.csv.UseCRLF = false", "./ledger", "TestExportOfPaymentsAsCSV"},
	{"export: sorting leaves the reserve", exportGo, "return l.store.Reserved(l.store.TempDir(), w) }}", "return w }}", "./ledger", "TestExportLeavesTheReserve"},
	{"export: an answer leaves the reserve", reserveGo, "free < reserve+more {", "free < more {", "./receiver/operator", "TestAnExportOnAFullDiskIsRefused"},
	{"export: metadata has a parameter for each key", operatorExport, "	q := parseQuery(r, \"metadata\")\n", "	q := parseQuery(r)\n", "./receiver/operator", "TestExportOfAKeyWithAComma"},
	{"export: no key twice", exportCommandGo, "slices.Contains(f.metadata[:i], key)", "slices.Contains(f.metadata[:i*0], key)", ".", "TestScripts/export"},
	{"export: a walk ends with its context", scanGo, "				if err := ctx.Err(); err != nil {", "				if err := error(nil); err != nil {", "./ledger", "TestExportEndsWithItsContext"},
	{"export: a visit of payments ends with its context", exportGo, "					if err := ctx.Err(); err != nil {", "					if err := error(nil); err != nil {", "./ledger", "TestExportEndsWithItsContext"},
	{"export: a client that leaves is no failure of the ledger", operatorGo, "	case errors.Is(err, context.Canceled):", "	case false:", "./receiver/operator", "TestACanceledExport"},
	{"export: it ends when the receiver stops", operatorGo, untilStopping, "	stop := func() bool { return false }\n", "./receiver/operator", "TestAnExportEndsWhenTheReceiverStops"},
	{"export: payments from the first second", exportedGo, "first = timeKey(*from, \"\")", "first = timeKey(*from+1, \"\")", "./ledger", "TestExportBetweenTwoTimes"},
	{"export: payments before the last second", exportedGo, "end = timeKey(*to, \"\")", "end = timeKey(*to+1, \"\")", "./ledger", "TestExportBetweenTwoTimes"},
	{"export: entries from the first second", entriesGo, "		next = timeKey(*from, \"\")", "		next = timeKey(*from+1, \"\")", "./ledger", "TestExportOfDaysInATimezone"},
	{"export: entries before the last second", entriesGo, "		end = timeKey(*to, \"\")", "		end = timeKey(*to+1, \"\")", "./ledger", "TestExportOfDaysInATimezone"},
	{"export: a payment is visited once", exportGo, "		if last == string(r.key) {", "		if false && last == string(r.key) {", "./ledger", "TestExportReadsAPaymentOnce"},
	{"export: what changes meanwhile is read again", exportGo, "pass == firstPass && again[id]", "false && pass == firstPass && again[id]", "./ledger", besideTest},
	{"export: what moves meanwhile is not lost", exportGo, "		return x.add(s, f, secondPass)", "		_ = f\n		return nil", "./ledger", besideTest},
	{"export: the past has no later rows", pastGo, "return seq > p.last", "return false", "./ledger", pastTest},
	{"export: the past has no later links", pastGo, "err != nil || one.charges[charge] {", "err != nil || one != nil {", "./ledger", pastTest},
	{"export: the past has the charges of their own", pastGo, "		if r.facts.PaymentIntent == \"\" && !slices.Contains(ids", "		if false && !slices.Contains(ids", "./ledger", pastTest},
	{"export: rows come back from another payment", pastGo, "		rows = append(rows, of...)", "		_ = of", "./ledger", pastTest},
	{"export: a link touches the payments it takes rows from", pastGo, "					ids = append(ids, k.target)\n", "", "./ledger", pastTest},
	{"export: a change of the text is a change", exportGo, "!ok || bytes.Equal(line, side.other[e.ID])", "!ok || bytes.Equal(line, line) && side.other[e.ID] != nil", "./ledger", pastTest},
	{"export: what was removed counts against", exportGo, "{before, was, is, -1, \"removed\"", "{before, was, is, 1, \"removed\"", "./ledger", pastTest},
	{"export: no view of the future", exportGo, "	if ahead := max(begin, x.Sequence); ahead > x.now {", "	if ahead := max(begin, x.Sequence); false {", "./ledger", "TestExportAsOfAndSinceASequence"},
	{"export: another decoding is said", exportGo, "			x.Decoded = decoded\n", "", "./receiver/operator", "TestAnExportsHeaders"},
	{"export: the same decoding is not said", rebuildGo, "!bytes.Equal(old.encode(), before)", "!bytes.Equal(old.encode(), before[:0])", "./ledger", "TestExportReportsRedecodedBodies"},
	{"export: another decoding is not forgotten", rebuildGo, "	decoded, err := readDecoded(from)", "	decoded, err := uint64(0), error(nil)", "./ledger", "TestExportReportsRedecodedBodies"},
	{"export: more lines than fit are sorted", sorterGo, "	heap.Init(&m)\n", "", "./ledger", "TestSorterKeepsTheOrderOfEqualKeys"},
	{"export: one view of two", operatorExport, "	case find.AsOf != nil && find.Since != nil:", "	case false:", "./receiver/operator", "TestExport"},
	{"index of entries: old seconds go", entriesGo, "		case has == nil:\n", "		case has == nil && had == nil:\n", "./ledger", pastTest},
	{"index of entries: compared by the check", checkGo, "	c.index(id, s.index())\n", "", "./ledger", "TestVerifyChecksTheIndexOfEntries"},
	{"index of entries: no second too many", checkGo, "		{bucketEntries, c.seconds, \"seconds in the index of entries\", one},\n", "", "./ledger", "TestVerifyChecksTheIndexOfEntries"},
	{"index of entries: a refund that came back counts against", totalsGo, "		a.refunded = a.refunded.Minus(n)", "		a.refunded = n", "./receiver/operator", "TestTotalsArePaymentsSums"},
	{"days: a day begins with its first moment", timezoneGo, "	if zone == time.UTC {", "	if zone == time.UTC || true {\n		return time.Date(year, month, date, 0, 0, 0, 0, zone).Unix()\n	}\n	if zone == time.UTC {", "./ledger", "TestDaysOfTimezones"},
	{"days: of this machine are nobody's", timezoneGo, "	if name != \"Local\" {", "	if true {", "./ledger", "TestParseTime"},
	{"days: no more than can be summed at once", totalsGo, "to-from > MaxDays*secondsADay+secondsADay/2", "to < from", "./ledger", "TestTotalsRefuseTooManyDays"},
	{"days: the summary's are those of the zone", totalsGo, "	case q.Zone != nil && q.Zone != time.UTC:", "	case false:", "./receiver/operator", "TestAMonthsExportIsItsSummary"},
	{"escape: control characters", escapeGo, "	case c < 0x20, 0x7f <= c && c < 0xa0:", "	case c < 0x20:", "./ledger", "TestEscape"},
	{"escape: bidirectional characters", escapeGo, " || 0x2066 <= c && c <= 0x2069", "", "./ledger", "TestEscape"},
	{"escape: what is printed", cliGo, "ledger.EscapeWriter(p.Stdout), ledger.EscapeWriter(p.Stderr)", "p.Stdout, p.Stderr", "./receiver/cli", "TestOutputIsEscaped"},
	{"escape: a body on a terminal", eventsGo, "if body && !isTerminal(p.raw.stdout) {", "if body {", ".", "TestScripts/export"},
	{"escape: what is answered", operatorGo, "encode(ledger.EscapeWriter(w))", "encode(w)", "./receiver/operator", "TestAnswersCanBeShown"},
}
