package main

const (
	progressCmdGo  = "receiver/cli/progress.go"
	endpointListGo = "receiver/cli/endpoint_list.go"
	doctorHereGo   = "receiver/cli/doctor_machine.go"
)

// commands has what the command line shows and refuses.
var commands = []broken{
	{"progress: only on a terminal", progressCmdGo, "	if !isTerminal(terminal) {", "	if false {", "./receiver/cli", "TestProgressOnATerminal"},
	{"progress: the line is wiped", progressCmdGo, "				if shown {", "				if shown && false {", "./receiver/cli", "TestProgressOnATerminal"},
	{"progress: what is transferred is counted", progressCmdGo, "	m.read.Add(int64(n))", "	m.read.Add(0)", "./receiver/cli", "TestProgressSaysHowFar"},
	{"progress: a rebuild says how far it is", rebuildGo, "r.opts.Rebuilding(next-1, seqOf(newest))", "r.opts.Rebuilding(0, 0)", "./receiver/cli", "TestProgressSaysHowFar"},
	{"endpoints: which are this receiver's is known only by its URL", endpointListGo, "				if e.address != \"\" {\n", "				if true {\n", "./receiver", "TestTheEndpointCommands"},
	{"doctor: a sentence has one full stop", "receiver/cli/doctor.go", "strings.CutSuffix(f.Message, \"..\"); ok &&", "strings.CutSuffix(f.Message, \"..\"); false && ok &&", "./receiver/cli", "TestADoctorsSentencesEndOnce"},
	{"errors: a network's are in words", "receiver/stripe/network.go", "	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):", "	case false && errors.Is(err, io.EOF):", "./receiver/stripe", "TestPlainly"},
	{"plural: one of many", "ledger/plural.go", "	if n == 1 {\n		return \"1 \" + noun\n	}\n", "", "./ledger", "TestPlural"},
	{"doctor: a receiver that waits for its ledger", doctorHereGo, "refused.Code == \"storage_unavailable\"", "refused.Code == \"\"", "./receiver", "TestADoctorOfAReceiverThatWaits"},
	{"doctor: a receiver that waits for a ledger in a folder that the caller names", doctorHereGo, "client == nil && d.waiter(ctx):", "client == nil && false:", "./receiver", "TestADoctorOfAReceiverThatWaits"},
	{"doctor: the port of a receiver that waits is its own", doctorHereGo, "	if d.waiting { // it is", "	if false { // it is", "./receiver", "TestADoctorOfAReceiverThatWaits"},
	{"doctor: a ledger that was saved", doctorHereGo, "	for _, file := range p.Deleted {", "	for _, file := range p.Deleted[:0] {", "./receiver", "TestADoctorSeesWhatWasLost"},
	{"doctor: a ledger that was lost", doctorHereGo, "p.Missing != \"\" && !p.File {", "p.Missing != \"\" && p.File {", "./receiver", "TestADoctorSeesWhatWasLost"},
}
