package main

const (
	exportGo        = "ledger/export/export.go"
	exportedGo      = "ledger/export/exportedpayments.go"
	lineGo          = "ledger/export/line.go"
	pastGo          = "ledger/export/past.go"
	sorterGo        = "ledger/export/sorter.go"
	escapeGo        = "ledger/wording/escape.go"
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
	{"ledger: exported text is no formula", lineGo, "	if s != \"\" && strings.ContainsRune(", "	if false && strings.ContainsRune(", "./ledger", "TestExportHasNoFormulas"},
	{"ledger: exported text is no formula after a semicolon", lineGo, "	if !strings.Contains(s, \";\") {", "	if true {", "./ledger", "TestExportHasNoFormulas"},
	{"ledger: exported text is no formula after quotes", lineGo, "strings.TrimLeft(part, `\" `)", "part", "./ledger", "TestExportHasNoFormulas"},
	{"ledger: exported CSV is escaped for terminals", lineGo, "noFormula(wording.Escape(string(c)))", "noFormula(string(c))", "./ledger", "TestExportHasNoFormulas"},
	{"ledger: exported JSON is escaped for terminals", lineGo, "wording.Escape(strings.TrimSuffix(b.String(), \"\\n\"))", "strings.TrimSuffix(b.String(), \"\\n\")", "./ledger", "TestExportHasNoFormulas"},
	{"ledger: CSV lines end as RFC 4180 requires", lineGo, "f.csv.UseCRLF = true", "f.csv.UseCRLF = false", "./ledger", "TestExportOfPaymentsAsCSV"},
	{"ledger: sorting an export leaves the reserve free", exportGo, "return x.store.Reserved(x.store.TempDir(), w) }}", "return w }}", "./ledger", "TestExportLeavesTheReserve"},
	{"store: an export leaves the reserve free", reserveGo, "free < reserve+more {", "free < more {", "./receiver/operator", "TestAnExportOnAFullDiskIsRefused"},
	{"operator: each metadata key of an export is a parameter", operatorExport, "	q := parseQuery(r, \"metadata\")\n", "	q := parseQuery(r)\n", "./receiver/operator", "TestExportOfAKeyWithAComma"},
	{"cli: a metadata key of an export is not repeated", exportCommandGo, "slices.Contains(f.metadata[:i], key)", "slices.Contains(f.metadata[:i*0], key)", ".", "TestScripts/export"},
	{"ledger: a scan for an export ends with its context", scanGo, "				if err := ctx.Err(); err != nil {", "				if err := error(nil); err != nil {", "./ledger", "TestExportEndsWithItsContext"},
	{"ledger: reading payments for an export ends with its context", exportGo, "					if err := ctx.Err(); err != nil {", "					if err := error(nil); err != nil {", "./ledger", "TestExportEndsWithItsContext"},
	{"operator: a client that disconnects is no storage error", operatorGo, "	case errors.Is(err, context.Canceled):", "	case false:", "./receiver/operator", "TestACanceledExport"},
	{"operator: an export ends at shutdown", operatorGo, untilStopping, "	stop := func() bool { return false }\n", "./receiver/operator", "TestAnExportEndsWhenTheReceiverStops"},
	{"ledger: an export of payments includes its first second", exportedGo, "first = schema.TimeKey(*from, \"\")", "first = schema.TimeKey(*from+1, \"\")", "./ledger", "TestExportBetweenTwoTimes"},
	{"ledger: an export of payments excludes its end", exportedGo, "end = schema.TimeKey(*to, \"\")", "end = schema.TimeKey(*to+1, \"\")", "./ledger", "TestExportBetweenTwoTimes"},
	{"ledger: an export of entries includes its first second", scanGo, "		next = schema.TimeKey(*from, \"\")", "		next = schema.TimeKey(*from+1, \"\")", "./ledger", "TestExportOfDaysInATimezone"},
	{"ledger: an export of entries excludes its end", scanGo, "		end = schema.TimeKey(*to, \"\")", "		end = schema.TimeKey(*to+1, \"\")", "./ledger", "TestExportOfDaysInATimezone"},
	{"ledger: an export reads a payment once", exportGo, "		if last == string(r.key) {", "		if false && last == string(r.key) {", "./ledger", "TestExportReadsAPaymentOnce"},
	{"ledger: an export reads payments that change meanwhile again", exportGo, "pass == firstPass && again[id]", "false && pass == firstPass && again[id]", "./ledger", besideTest},
	{"ledger: an export includes payments that move meanwhile", exportGo, "		return x.add(s, f, secondPass)", "		_ = f\n		return nil", "./ledger", besideTest},
	{"ledger: an export of an earlier state has no later rows", pastGo, "return seq > p.last", "return false", "./ledger", pastTest},
	{"ledger: an export of an earlier state has no later links", pastGo, "err != nil || one.charges[charge] {", "err != nil || one != nil {", "./ledger", pastTest},
	{"ledger: an export of an earlier state has charges before they were linked", pastGo, "		if r.Facts.PaymentIntent == \"\" && !slices.Contains(ids", "		if false && !slices.Contains(ids", "./ledger", pastTest},
	{"ledger: an export of an earlier state takes rows back from other payments", pastGo, "		rows = append(rows, of...)", "		_ = of", "./ledger", pastTest},
	{"ledger: a link changes the payments from which it takes rows", pastGo, "					ids = append(ids, k.Target)\n", "", "./ledger", pastTest},
	{"ledger: a changed text is a change in an export", exportGo, "!ok || bytes.Equal(line, side.other[e.ID])", "!ok || bytes.Equal(line, line) && side.other[e.ID] != nil", "./ledger", pastTest},
	{"ledger: a removed entry is negative in an export", exportGo, "{before, was, is, -1, \"removed\"", "{before, was, is, 1, \"removed\"", "./ledger", pastTest},
	{"ledger: an export of a later state is refused", exportGo, "	if ahead := max(begin, x.Sequence); ahead > x.now {", "	if ahead := max(begin, x.Sequence); false {", "./ledger", "TestExportAsOfAndSinceASequence"},
	{"ledger: an export says that bodies were decoded again", exportGo, "			x.Decoded = decoded\n", "", "./receiver/operator", "TestAnExportsHeaders"},
	{"ledger: a rebuild that changes no facts is not reported", rebuildGo, "!bytes.Equal(old.Encode(), before)", "!bytes.Equal(old.Encode(), before[:0])", "./ledger", "TestExportReportsRedecodedBodies"},
	{"ledger: a second rebuild keeps what the first one noted", rebuildGo, "	decoded, err := schema.ReadDecoded(from)", "	decoded, err := uint64(0), error(nil)", "./ledger", "TestExportReportsRedecodedBodies"},
	{"ledger: lines beyond memory are merged in order", sorterGo, "	heap.Init(&m)\n", "", "./ledger/export", "TestSorterKeepsTheOrderOfEqualKeys"},
	{"operator: an export has as_of or since, not both", operatorExport, "	case find.AsOf != nil && find.Since != nil:", "	case false:", "./receiver/operator", "TestExport"},
	{"ledger: the index of entries has no old seconds", changeGo, "		case has == nil:\n", "		case has == nil && had == nil:\n", "./ledger", pastTest},
	{"ledger: the check compares the index of entries", checkGo, "	c.index(id, s.MoneyByTime())\n", "", "./ledger", "TestVerifyChecksTheIndexOfEntries"},
	{"ledger: the check finds surplus seconds in the index of entries", checkGo, "		{schema.BucketEntries, c.seconds, \"seconds in the index of entries\", one},\n", "", "./ledger", "TestVerifyChecksTheIndexOfEntries"},
	{"ledger: a returned refund is subtracted from the total", amountsGo, "		a.Refunded = a.Refunded.Minus(n)", "		a.Refunded = n", "./receiver/operator", "TestTotalsArePaymentsSums"},
	{"ledger: a day starts with its first moment", timezoneGo, "	if zone == time.UTC {", "	if zone == time.UTC || true {\n		return time.Date(year, month, date, 0, 0, 0, 0, zone).Unix()\n	}\n	if zone == time.UTC {", "./ledger", "TestDaysOfTimezones"},
	{"ledger: the timezone Local is refused", timezoneGo, "	if name != \"Local\" {", "	if true {", "./ledger", "TestParseTime"},
	{"ledger: the number of days of a summary is limited", totalsGo, "end-begin > MaxDays*schema.SecondsADay+schema.SecondsADay/2", "end < begin", "./ledger", "TestTotalsRefuseTooManyDays"},
	{"ledger: the days of a summary are those of its timezone", totalsGo, "	if q.Zone != nil && q.Zone != time.UTC && !all {", "	if false {", "./receiver/operator", "TestAMonthsExportIsItsSummary"},
	{"ledger: control characters are escaped", escapeGo, "	case c < 0x20, 0x7f <= c && c < 0xa0:", "	case c < 0x20:", "./ledger/wording", "TestEscape"},
	{"ledger: bidirectional characters are escaped", escapeGo, " || 0x2066 <= c && c <= 0x2069", "", "./ledger/wording", "TestEscape"},
	{"cli: output is escaped", cliGo, "wording.EscapeWriter(p.Stdout), wording.EscapeWriter(p.Stderr)", "p.Stdout, p.Stderr\n\t_ = wording.EscapeWriter", "./receiver/cli", "TestOutputIsEscaped"},
	{"cli: a body on a terminal is escaped", eventsGo, "if body && !terminal.IsTerminal(p.raw.stdout) {", "if body {", ".", "TestScripts/export"},
	{"operator: answers are escaped", operatorGo, "encode(wording.EscapeWriter(w))", "encode(io.MultiWriter(w, wording.EscapeWriter(io.Discard)))", "./receiver/operator", "TestAnswersCanBeShown"},
}
