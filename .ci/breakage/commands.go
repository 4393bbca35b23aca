package main

const (
	progressCmdGo  = "receiver/cli/progress.go"
	endpointListGo = "receiver/cli/endpoint_list.go"
	doctorGo       = "receiver/doctor/doctor.go"
	healthGo       = "receiver/health/health.go"
	doctorHereGo   = "receiver/doctor/machine.go"
	examinationGo  = "receiver/doctor/examination.go"
)

// commandMutations break rules of the command line, of doctor and of health.
var commandMutations = []mutation{
	{"progress: only on a terminal", progressCmdGo, "	if !isTerminal(terminal) {", "	if false {", "./receiver/cli", "TestProgressOnATerminal"},
	{"progress: the line is wiped", progressCmdGo, "				if shown {", "				if shown && false {", "./receiver/cli", "TestProgressOnATerminal"},
	{"progress: what is transferred is counted", progressCmdGo, "	m.read.Add(int64(n))", "	m.read.Add(0)", "./receiver/cli", "TestProgressSaysHowFar"},
	{"progress: a rebuild says how far it is", rebuildGo, "r.opts.Rebuilding(next-1, newest)", "r.opts.Rebuilding(0, 0)", "./receiver/cli", "TestProgressSaysHowFar"},
	{"endpoints: which are this receiver's is known only by its URL", endpointListGo, "				if e.address != \"\" {\n", "				if true {\n", "./receiver", "TestTheEndpointCommands"},
	{"doctor: what is not checked is unknown", doctorGo, "			if message != \"\" {", "			if false {", "./receiver/doctor", "TestChecksThatAreNotRun"},
	{"health: another severity stands since now", healthGo, "key := standing{f.Code, f.Severity}", "key := standing{f.Code, OK}", "./receiver/health", "TestSinceIsTheBeginningOfAnUnbrokenSeries"},
	{"health: a break ends a series", healthGo, "	next := make(map[standing]int64, len(findings))\n", "	next := make(map[standing]int64, len(findings))\n	for k, v := range b.since {\n		next[k] = v\n	}\n", "./receiver/health", "TestSinceIsTheBeginningOfAnUnbrokenSeries"},
	{"health: it is checked without a request", appGo, "	a.group.Go(\"health check\", a.checkHealth)\n", "", "./receiver/app", "TestRun"},
	{"doctor: a sentence has one full stop", doctorGo, "strings.CutSuffix(list[i].Message, \"..\"); ok &&", "strings.CutSuffix(list[i].Message, \"..\"); false && ok &&", "./receiver/cli", "TestADoctorsSentencesEndOnce"},
	{"errors: a network's are in words", "receiver/stripe/network.go", "	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):", "	case false && errors.Is(err, io.EOF):", "./receiver/stripe", "TestPlainError"},
	{"plural: one of many", "ledger/plural.go", "	if n == 1 {\n		return \"1 \" + noun\n	}\n", "", "./ledger", "TestPlural"},
	{"doctor: a receiver that waits for its ledger", examinationGo, "refused.Code == \"storage_unavailable\"", "refused.Code == \"\"", "./receiver", "TestADoctorOfAReceiverThatWaits"},
	{"doctor: a receiver that waits for a ledger in a folder that the caller names", examinationGo, "x.receiverErr = err; err == nil {", "x.receiverErr = err; false {", "./receiver", "TestADoctorOfAReceiverThatWaits"},
	{"doctor: the port of a receiver that waits is its own", doctorHereGo, "	if x.waiting { // it listens", "	if false { // it listens", "./receiver", "TestADoctorOfAReceiverThatWaits"},
	{"doctor: a ledger that was saved", doctorHereGo, "	for _, file := range x.dir.Deleted {", "	for _, file := range x.dir.Deleted[:0] {", "./receiver", "TestADoctorSeesWhatWasLost"},
	{"doctor: a ledger that was lost", doctorHereGo, "x.dir.Missing != \"\" && !x.dir.File {", "x.dir.Missing != \"\" && x.dir.File {", "./receiver", "TestADoctorSeesWhatWasLost"},
}
