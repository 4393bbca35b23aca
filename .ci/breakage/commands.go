package main

const (
	progressCmdGo  = "receiver/cli/progress.go"
	endpointListGo = "receiver/cli/endpoint_list.go"
)

// commands has what the command line shows and refuses.
var commands = []broken{
	{"progress: only on a terminal", progressCmdGo, "	if !isTerminal(terminal) {", "	if false {", "./receiver/cli", "TestProgressOnATerminal"},
	{"progress: the line is wiped", progressCmdGo, "				if shown {", "				if shown && false {", "./receiver/cli", "TestProgressOnATerminal"},
	{"progress: what is transferred is counted", progressCmdGo, "	m.read.Add(int64(n))", "	m.read.Add(0)", "./receiver/cli", "TestProgressSaysHowFar"},
	{"progress: a rebuild says how far it is", rebuildGo, "r.opts.Rebuilding(next-1, seqOf(newest))", "r.opts.Rebuilding(0, 0)", "./receiver/cli", "TestProgressSaysHowFar"},
	{"endpoints: which are this receiver's is known only by its URL", endpointListGo, "				if e.address != \"\" {\n", "				if true {\n", "./receiver", "TestTheEndpointCommands"},
}
