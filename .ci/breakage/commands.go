package main

const (
	progressCmdGo  = "receiver/cli/progress.go"
	endpointListGo = "receiver/cli/endpoint_list.go"
	doctorHereGo   = "receiver/doctor/machine.go"
	examinationGo  = "receiver/doctor/examination.go"
)

// commands has what the command line shows and refuses.
var commands = []broken{
	{"progress: only on a terminal", progressCmdGo, "	if !isTerminal(terminal) {", "	if false {", "./receiver/cli", "TestProgressOnATerminal"},
	{"progress: the line is wiped", progressCmdGo, "				if shown {", "				if shown && false {", "./receiver/cli", "TestProgressOnATerminal"},
	{"progress: what is transferred is counted", progressCmdGo, "	m.read.Add(int64(n))", "	m.read.Add(0)", "./receiver/cli", "TestProgressSaysHowFar"},
	{"progress: a rebuild says how far it is", rebuildGo, "r.opts.Rebuilding(next-1, newest)", "r.opts.Rebuilding(0, 0)", "./receiver/cli", "TestProgressSaysHowFar"},
	{"endpoints: which are this receiver's is known only by its URL", endpointListGo, "				if e.address != \"\" {\n", "				if true {\n", "./receiver", "TestTheEndpointCommands"},
	{"doctor: a sentence has one full stop", "receiver/doctor/doctor.go", "strings.CutSuffix(list[i].Message, \"..\"); ok &&", "strings.CutSuffix(list[i].Message, \"..\"); false && ok &&", "./receiver/cli", "TestADoctorsSentencesEndOnce"},
	{"errors: a network's are in words", "receiver/stripe/network.go", "	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):", "	case false && errors.Is(err, io.EOF):", "./receiver/stripe", "TestPlainly"},
	{"plural: one of many", "ledger/plural.go", "	if n == 1 {\n		return \"1 \" + noun\n	}\n", "", "./ledger", "TestPlural"},
	{"doctor: a receiver that waits for its ledger", examinationGo, "refused.Code == \"storage_unavailable\"", "refused.Code == \"\"", "./receiver", "TestADoctorOfAReceiverThatWaits"},
	{"doctor: a receiver that waits for a ledger in a folder that the caller names", examinationGo, "x.receiverErr = err; err == nil {", "x.receiverErr = err; false {", "./receiver", "TestADoctorOfAReceiverThatWaits"},
	{"doctor: the port of a receiver that waits is its own", doctorHereGo, "	if x.waiting { // it listens", "	if false { // it listens", "./receiver", "TestADoctorOfAReceiverThatWaits"},
	{"doctor: a ledger that was saved", doctorHereGo, "	for _, file := range x.dir.Deleted {", "	for _, file := range x.dir.Deleted[:0] {", "./receiver", "TestADoctorSeesWhatWasLost"},
	{"doctor: a ledger that was lost", doctorHereGo, "x.dir.Missing != \"\" && !x.dir.File {", "x.dir.Missing != \"\" && x.dir.File {", "./receiver", "TestADoctorSeesWhatWasLost"},
}
