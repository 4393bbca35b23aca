package main

const (
	scanGo   = "ledger/scan.go"
	queryGo  = "ledger/query.go"
	searchGo = "receiver/operator/search.go"
	pagesGo  = "receiver/cli/pages.go"
	knownGo  = "receiver/operator/values.go"
	followGo = "receiver/cli/follow.go"
)

// untilStopping is the text that ends a request when the receiver stops.
const untilStopping = "	if op.Stopping.Err() != nil { // AfterFunc would run end in a moment\n		end()\n	}\n	stop := context.AfterFunc(op.Stopping, end)\n"

// Tests of searches and their pages.
const (
	boundedTest = "TestSearchIsBounded"
	turnsTest   = "TestSlicesOfLongReadsTakeTurns"
	totalsTest  = "TestPagesOfTotals"
)

// searchMutations break the limits of searches and totals.
var searchMutations = []mutation{
	{"search: it ends with its caller", scanGo, "			if err := ctx.Err(); err != nil {\n				return true, err", "			if err := error(nil); err != nil {\n				return true, err", "./ledger", boundedTest},
	{"search: a payment's events end with the caller", queryGo, "			if err := ctx.Err(); err != nil {", "			if err := error(nil); err != nil {", "./ledger", boundedTest},
	{"search: a bounded number of rows", scanGo, "visited == s.rows ||", "visited < 0 ||", "./ledger", boundedTest},
	{"search: a bounded number of a payment's rows", queryGo, "examined == l.bounds.rows ||", "false ||", "./ledger", boundedTest},
	{"search: a bounded number of bytes", scanGo, "s.bytes >= l.bounds.bytes", "false", "./ledger", boundedTest},
	{"search: a page of large payments ends early", queryGo, " || size >= l.bounds.page;", ";", "./ledger", boundedTest},
	{"search: pages leave nothing out", scanGo, "			if stop, err := visit(tx, key);", "			s.reached = bytes.Clone(key)\n			if stop, err := visit(tx, key);", "./ledger", "TestPagesTogetherAreTheList"},
	{"search: a payment that gets another id keeps its events", queryGo, "p, err := paymentBy(tx, id) //", "p, err := readState(tx, id) //", "./ledger", "TestPagesOfEventsOfAPayment"},
	{"search: no cursor of another list", scanGo, "text[0] != kind ||", "", "./ledger", "TestCursorsOfOtherListsAreRefused"},
	{"search: one slice at a time", scanGo, "	defer func() { l.turn <- notBefore }()\n", "	l.turn <- notBefore\n", "./ledger", turnsTest},
	{"search: a rest beside events", scanGo, "began.Add(2 * took)", "began.Add(took)", "./ledger", turnsTest},
	{"search: few at once", operatorGo, "op.search(op.events)", "op.events", "./receiver/operator", "TestFewSearchesRunAtOnce"},
	{"search: who must wait is told how long", operatorGo, "		w.Header().Set(\"Retry-After\", strconv.Itoa(int(placeTime.Seconds())))\n", "		_ = strconv.Itoa\n", "./receiver/operator", "TestFewSearchesRunAtOnce"},
	{"search: it ends when the receiver stops", operatorGo, untilStopping, "	stop := func() bool { return false }\n", "./receiver/operator", "TestASearchEndsWithItsCaller"},
	{"search: large lists are encoded by and by", operatorGo, "	if err := encode(ledger.EscapeWriter(w)); err != nil {", "	var all strings.Builder\n	_ = encode(&all)\n	if _, err := ledger.EscapeWriter(w).Write([]byte(all.String())); err != nil {", "./receiver/operator", "TestTheLargestAnswers"},
	{"search: a command asks for the next page", pagesGo, "		if !list.HasMore || list.NextPage == \"\" ||", "		if true || list.NextPage == \"\" ||", "./receiver/cli", "TestACommandFollowsPages"},
	{"search: a stopped command shows what it has found", pagesGo, "		if err != nil && ctx.Err() != nil {", "		if false {", "./receiver/cli", "TestAStoppedSearchSaysHowToGoOn"},
	{"search: an unknown status, currency or type is an error", knownGo, "	return unknown\n", "	return nil\n", "./receiver/operator", "TestUnknownValues"},
	{"search: what the ledger holds is known", knownGo, "held || err != nil {", "false && held || err != nil {", "./receiver/operator", "TestUnknownValues"},
	{"search: an unknown value is an error at the end of a long search", pagesGo, "nothing && !stopped)", "nothing && false)", "./receiver/cli", "TestASearchForAnUnknownValue"},
	{"search: an unknown type is not followed", followGo, "operator.Undocumented(\"type\", f.typ) != nil {", "false {", ".", "TestScripts/receive"},
	{"follow: another ledger is begun anew", followGo, "			f.last, anew = 0, true\n", "", ".", "TestScripts/status"},
	{"totals: a page has its limit", totalsGo, "		if len(page.Data) == limit {", "		if false {", "./ledger", totalsTest},
	{"totals: a page of another zone has its limit", totalsGo, "			if len(page.Data) == q.Limit {", "			if false {", "./ledger", totalsTest},
	{"totals: the sum over all days is kept", totalsGo, ", string(allDaysKey(e.Currency, account))}", "}", "./ledger", totalsTest},
	{"totals: a damaged sum over all days is computed anew", totalsGo, "	if err != nil && isAllDays([]byte(key)) {", "	if false {", "./ledger", "TestDamagedSumOverAllDays"},
	{"totals: no time that no calendar has", timezoneGo, "		if n < firstSecond || n >= lastSecond {", "		if false {", "./receiver/operator", "TestASummarysDays"},
	{"totals: from is not after to", apiGo, "*from > *to {", "false {", "./receiver/operator", "TestASummarysDays"},
}
