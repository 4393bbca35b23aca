package main

const (
	progressCmdGo  = "receiver/terminal/progress.go"
	endpointListGo = "receiver/cli/endpoint_list.go"
	doctorGo       = "receiver/doctor/doctor.go"
	healthGo       = "receiver/health/health.go"
	doctorHereGo   = "receiver/doctor/machine.go"
	examinationGo  = "receiver/doctor/examination.go"
)

// commandMutations break rules of the command line, of doctor and of health.
var commandMutations = []mutation{
	{"cli: progress is shown on a terminal only", progressCmdGo, "	if !IsTerminal(terminal) {", "	if false {", "./receiver/cli", "TestProgressOnATerminal"},
	{"cli: the line of progress is erased", progressCmdGo, "				if shown {", "				if shown && false {", "./receiver/cli", "TestProgressOnATerminal"},
	{"cli: progress counts transferred bytes", progressCmdGo, "	m.read.Add(int64(n))", "	m.read.Add(0)", "./receiver/cli", "TestProgressSaysHowFar"},
	{"ledger: a rebuild reports its progress", rebuildGo, "r.opts.Progress(now.Last, newest)", "r.opts.Progress(0, 0)", "./receiver/cli", "TestProgressSaysHowFar"},
	{"cli: the receiver's own endpoints are known only with its URL", endpointListGo, "				if e.address != \"\" {\n", "				if true {\n", "./receiver", "TestTheEndpointCommands"},
	{"doctor: the own account is no connected one", "receiver/doctor/stripe.go", "	return id\n}", "	return id[:0]\n}", "./receiver", "TestADoctorKnowsTheOwnAccount"},
	{"doctor: a check that is not run is unknown", doctorGo, "			if message != \"\" {", "			if false {", "./receiver/doctor", "TestChecksThatAreNotRun"},
	{"health: a finding with a new severity starts anew", healthGo, "key := findingKey{f.Code, f.Severity}", "key := findingKey{f.Code, OK}", "./receiver/health", "TestSinceIsTheBeginningOfAnUnbrokenSeries"},
	{"health: a finding that was absent starts anew", healthGo, "	next := make(map[findingKey]int64, len(findings))\n", "	next := make(map[findingKey]int64, len(findings))\n	for k, v := range b.since {\n		next[k] = v\n	}\n", "./receiver/health", "TestSinceIsTheBeginningOfAnUnbrokenSeries"},
	{"app: health is checked without a request", appGo, "	a.group.Go(\"health check\", a.checkHealth)\n", "", "./receiver/app", "TestRun"},
	{"doctor: a finding of the receiver and of a check is reported once", doctorGo, "return slices.Contains(reported, f) &&", "return false &&", "./receiver/doctor", "TestFindingsAreReportedOnce"},
	{"doctor: a message ends with one full stop", doctorGo, "strings.CutSuffix(list[i].Message, \"..\"); ok &&", "strings.CutSuffix(list[i].Message, \"..\"); false && ok &&", "./receiver/cli", "TestADoctorsSentencesEndOnce"},
	{"stripe: network errors have plain messages", "receiver/stripe/network.go", "	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):", "	case false && errors.Is(err, io.EOF):", "./receiver/stripe", "TestPlainError"},
	{"ledger: Plural uses the singular for one", "ledger/wording/plural.go", "	if n == 1 {\n		return \"1 \" + noun\n	}\n", "", "./ledger/wording", "TestPlural"},
	{"doctor: a receiver that waits for its ledger is recognized", examinationGo, "refused.Code == \"storage_unavailable\"", "refused.Code == \"\"", "./receiver", "TestADoctorOfAReceiverThatWaits"},
	{"doctor: a receiver of another directory that waits is recognized", examinationGo, "x.receiverErr = err; err == nil {", "x.receiverErr = err; false {", "./receiver", "TestADoctorOfAReceiverThatWaits"},
	{"doctor: the port of a waiting receiver is its own", doctorHereGo, "	if x.waiting { // it listens", "	if false { // it listens", "./receiver", "TestADoctorOfAReceiverThatWaits"},
	{"doctor: a restored ledger file is reported", doctorHereGo, "	for _, file := range x.dir.Deleted {", "	for _, file := range x.dir.Deleted[:0] {", "./receiver", "TestADoctorSeesWhatWasLost"},
	{"doctor: a lost ledger file is reported", doctorHereGo, "x.dir.Missing != \"\" && !x.dir.File {", "x.dir.Missing != \"\" && x.dir.File {", "./receiver", "TestADoctorSeesWhatWasLost"},
}
