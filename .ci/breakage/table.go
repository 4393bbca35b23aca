package main

const (
	commitGo    = "ledger/commit.go"
	bookingGo   = "ledger/booking.go"
	mendGo      = "ledger/mend.go"
	fileGo      = "ledger/file.go"
	eventGo     = "ledger/event.go"
	ledgerGo    = "ledger/ledger.go"
	paymentGo   = "ledger/payment.go"
	codecGo     = "ledger/codec.go"
	signatureGo = "receiver/stripe/signature.go"
	decodeGo    = "receiver/stripe/decode.go"
	intentGo    = "receiver/stripe/intent.go"
	jsonGo      = "receiver/stripe/json.go"
	receiverGo  = "receiver/receiver.go"
	bodyGo      = "receiver/body.go"
	listenGo    = "receiver/listen.go"
	operatorGo  = "receiver/operator/operator.go"
	apiGo       = "receiver/operator/api.go"
	configGo    = "receiver/config/config.go"
	secretsGo   = "receiver/config/secrets.go"
	valuesGo    = "receiver/config/values.go"
)

var table = []broken{
	// On disk before the answer.
	{"sync", ledgerGo, "InitialMmapSize: mapSize,", "InitialMmapSize: mapSize, NoSync: true,", ".", "TestFailingSync"},
	{"answer after the commit", eventGo, "	select {\n	case <-p.done:\n		return p.result, p.err\n	case <-l.stopped:\n		// The", "	select {\n	default:\n		return Result{Status: Applied, PaymentID: e.Facts.PaymentID()}, nil\n	case <-l.stopped:\n		// The", ".", "TestKillUnderLoad|TestFullDisk"},
	{"a failed commit is not a success", commitGo, "		return b, fmt.Errorf(\"commit: %w\", err)", "		return b, nil", ".", "TestFailingSync"},
	{"mend after a failed commit", mendGo, "		l.failure.Store(nil)\n", "", ".", "TestFullDisk"},
	{"the meta pages are written back", mendGo, "	if err := l.writeMetas(l.unsettled.metas); err != nil {\n		return err\n	}\n", "", "./ledger", "TestAForgottenMetaPage"},
	{"a start settles the file", ledgerGo, "		err = l.settle()", "		err = nil", "./ledger", "TestARestartBelievesTheDisk"},
	{"a commit that hangs is told", eventGo, "took > hangs {", "false && took > hangs {", ".", "TestHangingDisk"},
	{"a lookup is bounded in time", eventGo, "	if res, ok, err := l.lookup(ctx, e); ok || err != nil {", "	if res, ok, err := l.known(e.Livemode, e.ID, e.Quarantine == \"\"); ok || err != nil {", "./ledger", "TestALookupIsBounded"},
	{"damaged pages are errors", ledgerGo, "	if r := recover(); r != nil {", "	if r := any(nil); r != nil {", "./ledger", "TestADamagedPageIsAnError"},
	{"a damaged last row", ledgerGo, "		case errors.Is(err, ErrCorrupt): // one", "		case false: // one", "./ledger", "TestADamagedLastRowDoesNotStopTheStart"},
	{"the queue weighs what is decoded", commitGo, "weight: int64(len(e.Raw) + queuedOverhead)", "weight: int64(len(body) + queuedOverhead)", "./ledger", "TestAFullQueueRefusesAtOnce"},
	{"repeats in quarantine cost no commit", eventGo, "row.outcome == Quarantined && usable", "row.outcome == Quarantined", "./ledger", "TestRepeatsAreWrittenInTime"},
	{"all repeats are written in time", commitGo, "l.flushes = (n - 1) / maxRepeats", "l.flushes = 0 * n", "./ledger", "TestRepeatsAreWrittenInTime"},
	{"slow senders are let go", bodyGo, "c.SetReadDeadline(time.Now().Add(lingerTime))", "nil", ".", "TestStopWithSlowSenders"},
	{"known means durable", eventGo, "seq > l.durableSeq.Load()", "false", ".", "TestARepeatWaitsForTheSync"},
	{"released means durable", eventGo, "row.released && uint64(tx.ID()) > l.durableTx.Load()", "false", ".", "TestARepeatWaitsForTheSync"},
	{"what waits at the end is committed", commitGo, "		batch, stopping := l.gather(ctx)\n", "		if ctx.Err() != nil {\n			return nil\n		}\n		batch, stopping := l.gather(ctx)\n", "./ledger", "TestTheEndCommitsWhatWaits"},
	{"the queue is bounded in events", commitGo, "maxQueued = 8192", "maxQueued = 1 << 16", "./ledger", "TestAFullQueueRefusesAtOnce"},
	{"the queue is bounded in bytes", commitGo, "maxQueuedBytes = 64 << 20", "maxQueuedBytes = 64 << 30", "./ledger", "TestAFullQueueRefusesAtOnce"},

	// Exactly once.
	{"one row an id", bookingGo, "	if !known {", "	if known = false; !known {", "./ledger", "TestOneEventAHundredTimesAtOnceIsBookedOnce"},
	{"repeats are counted", bookingGo, "	r.repeats += n", "	r.repeats += 0 * n", "./ledger", "TestALedgerKeepsWhatItWasGiven"},
	{"quarantine blocks nothing", bookingGo, "old.outcome == Quarantined && e.Quarantine == \"\"", "false", "./ledger", "TestQuarantineBlocksNothing"},
	{"quarantine is not known", eventGo, "row.outcome == Quarantined && usable || row.released", "row.released", "./ledger", "TestQuarantineBlocksNothing"},
	{"what is booked leaves quarantine", bookingGo, "		return remove(b.tx, bucketQuarantine, key)", "		return nil", "./ledger", "TestQuarantineBlocksNothing"},
	{"quarantine books nothing", bookingGo, "		r.outcome, r.facts = Quarantined, Facts{}", "		r.outcome = Quarantined", "./ledger", "TestQuarantineBlocksNothing"},
	{"the mode is bound", ledgerGo, "	if l.livemode != opts.Livemode {", "	if false {", "./ledger", "TestOpenRefuses"},
	{"a held ledger is refused at once", ledgerGo, "		Timeout:         time.Millisecond, // one try: a held file is reported, not waited for", "		Timeout:         time.Hour,", "./ledger", "TestOpenRefuses/a_second_process"},
	{"a file cut short is refused", fileGo, "	case uint64(info.Size()) < needed:", "	case false:", "./ledger", "TestOpenRefuses"},
	{"faults in the mapped file are errors", ledgerGo, "	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))\n	defer func() { l.lock(begun, err) }()\n	defer damaged(&err)\n	return l.db.View(", "	defer debug.SetPanicOnFault(debug.SetPanicOnFault(false))\n	defer func() { l.lock(begun, err) }()\n	defer damaged(&err)\n	return l.db.View(", "./ledger", "TestAFileCutShortUnderUs"},
	{"locks that bbolt keeps end Run", ledgerGo, "	l.locked.Store(true)\n", "	return\n", "./ledger", "TestAFileEmptiedUnderUs"},
	{"damage where is written fails alone", bookingGo, "		b.reach(bucketPaymentEvents, paymentEventKey(f.state.id, seq))\n", "", "./ledger", "TestADamagedPageIsAnError"},
	{"checksums", codecGo, "checksum(bucket, key, value) == binary.BigEndian.Uint32(stored[n:])", "true", "./ledger", "TestCheckFindsEveryDamage"},
	{"checksums hold the key", codecGo, "crc32.Update(crc32.Update(crc32.Checksum(bucket, castagnoli), castagnoli, key), castagnoli, value)", "crc32.Update(crc32.Checksum(bucket, castagnoli), castagnoli, value)", "./ledger", "TestCheckFindsEveryDamage"},
	{"damage fails alone", bookingGo, "		if f, err = b.fold(r); err != nil {\n			p.err = fmt.Errorf(\"%w: %w\", ErrUnavailable, err)\n			return nil", "		if f, err = b.fold(r); err != nil {\n			return err", "./ledger", "TestDamageFailsAlone"},
	{"group commit", commitGo, "	for len(batch) < maxBatch {", "	for len(batch) < 1 {", "./ledger", "TestManyEventsShareACommit"},

	// Any order.
	{"fold: terminal beats others", paymentGo, "		return a > b\n	}\n	if at != s.at {", "		return at > s.at\n	}\n	if at != s.at {", "./ledger", "TestOneSnapshotWins"},
	{"fold: succeeded beats canceled", paymentGo, "		return 2\n", "		return 1\n", "./ledger", "TestOneSnapshotWins"},
	{"fold: canceled is terminal", paymentGo, "		return 1\n	}\n	return 0", "		return 0\n	}\n	return 0", "./ledger", "TestOneSnapshotWins"},
	{"fold: the later one", paymentGo, "		return at > s.at", "		return at < s.at", "./ledger", "TestOneSnapshotWins"},
	{"fold: created below its second", paymentGo, "		return s.creation\n", "		return !s.creation\n", "./ledger", "TestOneSnapshotWins"},
	{"fold: rank within a second", paymentGo, "slices.Index(Statuses[:], s.intent.Status); a != b {\n		return a > b", "slices.Index(Statuses[:], s.intent.Status); a != b {\n		return a < b", "./ledger", "TestOneSnapshotWins"},
	{"fold: the greater id", paymentGo, "	return eventID > s.eventID", "	return eventID < s.eventID", "./ledger", "TestOneSnapshotWins"},
	{"fold: received is the greatest", paymentGo, "s.received = max(s.received, in.AmountReceived)", "s.received = in.AmountReceived", "./ledger", "TestAnyOrder"},
	{"fold: received is no sum", paymentGo, "s.received = max(s.received, in.AmountReceived)", "s.received += in.AmountReceived", "./ledger", "TestAnyOrder"},
	{"fold: canceled keeps nothing", paymentGo, "		if in.Status != statusCanceled {", "		if true {", "./ledger", "TestAnyOrder"},
	{"fold: nothing capturable once terminal", paymentGo, "		if terminality(in.Status) == 0 {", "		if true {", "./ledger", "TestAnyOrder"},
	{"fold: conflicts are flagged", paymentGo, "	if s.succeeded && s.canceled {", "	if false {", "./ledger", "TestAnyOrder"},
	{"fold: the smallest account", paymentGo, "r.account < s.account", "r.account > s.account", "./ledger", "TestAnyOrder"},
	{"fold: updated is the latest", paymentGo, "s.lastCreated = max(s.lastCreated, r.created)", "s.lastCreated = r.created", "./ledger", "TestAnyOrder"},
	{"fold: unchanged is told", paymentGo, "func (p *Payment) tellsTheSame(q *Payment) bool {\n", "func (p *Payment) tellsTheSame(q *Payment) bool {\n	if p != q {\n		return false\n	}\n", "./ledger", "TestRecordedAndUnchanged"},

	// Only Stripe.
	{"the MAC counts", signatureGo, "	if position < 0 {", "	if false {", "./receiver/stripe", "TestSignatures"},
	{"every secret counts", signatureGo, "			position = i\n			break\n		}", "			position = i\n			break\n		}\n		break", "./receiver/stripe", "TestSignatures"},
	{"the past is bounded", signatureGo, "	case age > v.tolerance:", "	case false:", "./receiver/stripe", "TestSignatures"},
	{"the future is bounded", signatureGo, "	case -age > v.tolerance:", "	case false:", "./receiver/stripe", "TestSignatures"},
	{"one time", signatureGo, "	if timestamps != 1 {", "	if timestamps < 1 {", "./receiver/stripe", "TestSignatures"},
	{"at least one time", signatureGo, "	if timestamps != 1 {", "	if timestamps > 1 {", "./receiver/stripe", "TestSignatures"},
	{"one header line", signatureGo, "	if len(lines) > 1 {", "	if false {", "./receiver/stripe", "TestSignatures"},
	{"spaces are put up with", signatureGo, "strings.TrimLeft(part, \" \\t\")", "part", "./receiver/stripe", "TestSignatures"},
	{"MAC before age", signatureGo, "	position = -1\n", "	if sig.age(now) > v.tolerance {\n		return -1, &Rejection{Code: TimestampTooOld}\n	}\n	position = -1\n", "./receiver/stripe", "TestSignatures"},

	// Nothing authentic is lost or invented.
	{"thin events are held", decodeGo, "	case object == \"v2.core.event\":", "	case false:", "./receiver/stripe", "TestQuarantine"},
	{"the other mode is held", decodeGo, "	case e.Livemode != livemode:", "	case false:", "./receiver/stripe", "TestQuarantine"},
	{"ids are bounded", decodeGo, "len(id) > 255", "false", "./receiver/stripe", "TestQuarantine"},
	{"money is an integer", intentGo, "		ok = ok && (isInt || field.isNull())", "		ok = ok || isInt", "./receiver/stripe", "TestQuarantine"},
	{"a payment event holds a payment", decodeGo, "	case strings.HasPrefix(typ, \"payment_intent.\"):", "	case strings.HasPrefix(typ, \"payment_intent.\") && false:", "./receiver/stripe", "TestQuarantine"},
	{"strings are skipped whole", jsonGo, "		if v[i] == '\\\\' {", "		if false {", "./receiver/stripe", "TestWhatIsTolerated"},

	// The public door.
	{"the header before the body", receiverGo, "	sig, err := stripe.ParseSignature(req.Header[\"Stripe-Signature\"])\n", "	_, _ = req.Body.Read(make([]byte, 1))\n	sig, err := stripe.ParseSignature(req.Header[\"Stripe-Signature\"])\n", "./receiver", "TestABadHeaderIsRefusedBeforeTheBody"},
	{"a length over the limit", receiverGo, "	if req.ContentLength > r.MaxBody {", "	if false {", "./receiver", "TestTheOrderOfRefusals"},
	{"a body over the limit", bodyGo, "		case int64(len(body)) > r.MaxBody:", "		case false:", "./receiver", "TestNothingHangs"},
	{"a body comes in time", bodyGo, "SetReadDeadline(start.Add(bodyTimeout))", "SetReadDeadline(start.Add(time.Hour))", "./receiver", "TestNothingHangs"},
	{"a header comes in time", listenGo, "headerTimeout = 4 * time.Second", "headerTimeout = time.Hour", "./receiver", "TestNothingHangs"},
	{"bodies share a budget", bodyGo, "	if b.used.Add(n) > b.limit {", "	if false {", "./receiver", "TestBodiesShareTheirMemory"},
	{"memory is given back", bodyGo, "r.memory.used.Add(-taken)", "_ = taken", "./receiver", "TestBodiesShareTheirMemory"},
	{"rejections do not fill the log", bodyGo, "now.Sub(last) < t.every", "false", "./receiver", "TestTheLog"},
	{"what was read is answered", listenGo, "d.server.Shutdown(ctx)", "d.server.Close()", "./receiver", "TestShutdownAnswersWhatWasRead"},
	{"what is on its way is answered", listenGo, "drainTime = 300 * time.Millisecond", "drainTime = 0", ".", "TestStopUnderLoad"},
	{"the longest idle makes room", listenGo, "front != nil && c.count > crowded", "front != nil && false", "./receiver", "TestACrowdOfIdleConnections"},
	{"a 503 says when to come again", receiverGo, "		h.Set(\"Retry-After\", retryAfter)\n", "", ".", "TestFullDisk"},

	// The private door.
	{"foreign hosts", operatorGo, "	if !op.isOwnHost(r) {", "	if false {", "./receiver/operator", "TestAnotherSitesPageIsRefused"},
	{"foreign origins", operatorGo, "!strings.EqualFold(u.Host, r.Host)", "false", "./receiver/operator", "TestAnotherSitesPageIsRefused"},
	{"foreign fetches", operatorGo, "site != \"none\" && site != \"same-origin\"", "site != \"none\" && site != \"same-origin\" && false", "./receiver/operator", "TestAnotherSitesPageIsRefused"},
	{"no login, no data", operatorGo, "		case \"/metrics\", \"/healthz\", \"/readyz\":", "		case \"/metrics\", \"/healthz\", \"/readyz\", \"/api/payments\":", "./receiver/operator", "TestOnTCPOnlyMetricsAndHealthAnswer"},
	{"unknown parameters", apiGo, "		q.fail(\"unknown parameter %q\", name)", "		_ = name", "./receiver/operator", "TestQueries"},

	// The configuration.
	{"unknown names", configGo, "	r.refuseUnknown()\n", "", "./receiver/config", "TestFaults"},
	{"one source a secret", secretsGo, "	if len(sources) > 1 {", "	if false {", "./receiver/config", "TestSecretsFromFilesAndCredentials"},
	{"no tolerance of 0", valuesGo, "		case d == 0:", "		case false:", "./receiver/config", "TestFaults"},
	{"key and mode agree", secretsGo, "keyMode != \"\" && mode != keyMode", "false", "./receiver/config", "TestFaults"},
}
