package main

const (
	scanGo   = "ledger/scan/scan.go"
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
	{"ledger: a search ends with its context", scanGo, "			if err := ctx.Err(); err != nil {\n				return true, err", "			if err := error(nil); err != nil {\n				return true, err", "./ledger", boundedTest},
	{"ledger: listing a payment's events ends with the context", queryGo, "			if err := ctx.Err(); err != nil {", "			if err := error(nil); err != nil {", "./ledger", boundedTest},
	{"ledger: a search reads a limited number of rows", scanGo, "visited == s.Rows ||", "visited < 0 ||", "./ledger", boundedTest},
	{"ledger: a list of a payment's events reads a limited number of rows", queryGo, "examined == l.reads.Bounds.Rows ||", "false ||", "./ledger", boundedTest},
	{"ledger: a search reads a limited number of bytes", scanGo, "s.Bytes >= r.Bounds.Bytes", "false", "./ledger", boundedTest},
	{"ledger: a page of large payments ends early", queryGo, " || size >= l.reads.Bounds.Page;", ";", "./ledger", boundedTest},
	{"ledger: pages leave out nothing", scanGo, "			if stop, err := visit(tx, key);", "			s.Reached = bytes.Clone(key)\n			if stop, err := visit(tx, key);", "./ledger", "TestPagesTogetherAreTheList"},
	{"ledger: a payment whose id changes keeps its events", queryGo, "p, err := paymentBy(tx, id) //", "p, err := schema.ReadState(tx, id) //", "./ledger", "TestPagesOfEventsOfAPayment"},
	{"ledger: the cursor of another list is refused", pageGo, "text[0] != kind ||", "", "./ledger", "TestCursorsOfOtherListsAreRefused"},
	{"ledger: long reads run one slice at a time", scanGo, "	defer func() { r.turn <- notBefore }()\n", "	r.turn <- notBefore\n", "./ledger", turnsTest},
	{"ledger: a long read pauses while events arrive", scanGo, "began.Add(2 * took)", "began.Add(took)", "./ledger", turnsTest},
	{"operator: the number of concurrent searches is limited", operatorGo, "op.search(op.events)", "op.events", "./receiver/operator", "TestFewSearchesRunAtOnce"},
	{"operator: a refused search has a Retry-After", operatorGo, "		w.Header().Set(\"Retry-After\", strconv.Itoa(int(placeTime.Seconds())))\n", "		_ = strconv.Itoa\n", "./receiver/operator", "TestFewSearchesRunAtOnce"},
	{"operator: a search ends at shutdown", operatorGo, untilStopping, "	stop := func() bool { return false }\n", "./receiver/operator", "TestASearchEndsWithItsCaller"},
	{"operator: a large list is encoded piece by piece", operatorGo, "	if err := encode(wording.EscapeWriter(w)); err != nil {", "	var all strings.Builder\n	_ = encode(&all)\n	if _, err := wording.EscapeWriter(w).Write([]byte(all.String())); err != nil {", "./receiver/operator", "TestTheLargestAnswers"},
	{"cli: a list command requests the next page", pagesGo, "		if !list.HasMore || list.NextPage == \"\" ||", "		if true || list.NextPage == \"\" ||", "./receiver/cli", "TestACommandFollowsPages"},
	{"cli: an interrupted list command prints what it has", pagesGo, "		if err != nil && ctx.Err() != nil {", "		if false {", "./receiver/cli", "TestAStoppedSearchSaysHowToGoOn"},
	{"operator: an unknown filter value is an error", knownGo, "		return unverifiedValue{}, unknown\n", "		return unverifiedValue{}, nil\n", "./receiver/operator", "TestUnknownValues"},
	{"operator: a filter value that the ledger holds is known", knownGo, "	case err != nil || held:\n", "	case err != nil || held && false:\n", "./receiver/operator", "TestUnknownValues"},
	{"operator: an unknown value is an error at the end of a large ledger, too", knownGo, "	page.Next = nothingYet + page.Next\n", "", "./receiver/operator", "TestUnknownValuesInALargeLedger"},
	{"operator: a value that another filter leaves out is no error", "receiver/operator/api.go", "	if err == nil && sole {", "	if err == nil && (sole || true) {", "./receiver/operator", "TestUnknownValuesInALargeLedger"},
	{"cli: an unknown type cannot be followed", followGo, "operator.Undocumented(\"type\", f.typ) != nil {", "false {", ".", "TestScripts/receive"},
	{"cli: following starts again in another ledger", followGo, "			f.last, anew = 0, true\n", "", ".", "TestScripts/status"},
	{"ledger: a page of totals has a limit", totalsGo, "	if len(p.list) == p.limit {", "	if false {", "./ledger", totalsTest},
	{"ledger: a page of totals in another timezone has a limit", totalsGo, "			if len(page.Data) == q.Limit {", "			if false {", "./ledger", totalsTest},
	{"ledger: the sum over all days is stored", amountsGo, ", string(AllDaysKey(e.Currency, account))}", "}", "./ledger", totalsTest},
	{"ledger: a damaged sum over all days is computed again", sumsGo, "	if err != nil && schema.IsAllDays([]byte(key)) {", "	if false {", "./ledger", "TestDamagedSumOverAllDays"},
	{"ledger: a time outside of the calendar is refused", timezoneGo, "		if n < firstSecond || n >= lastSecond {", "		if false {", "./receiver/operator", "TestASummarysDays"},
	{"operator: a summary whose start is after its end is refused", apiGo, "*from > *to {", "false {", "./receiver/operator", "TestASummarysDays"},
}
