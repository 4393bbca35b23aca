package main

import "slices"

const (
	mainGo        = "main.go"
	commitGo      = "ledger/commit.go"
	bookingGo     = "ledger/booking.go"
	mendGo        = "ledger/mend.go"
	checkGo       = "ledger/check.go"
	fileGo        = "ledger/file.go"
	eventGo       = "ledger/event.go"
	ledgerGo      = "ledger/ledger.go"
	lockGo        = "ledger/lock.go"
	freshGo       = "ledger/fresh.go"
	versionGo     = "ledger/version.go"
	edgeGo        = "ledger/edge.go"
	dictionaryGo  = "ledger/dictionary.go"
	formGo        = "ledger/form.go"
	changeGo      = "ledger/change.go"
	totalsGo      = "ledger/totals.go"
	retentionGo   = "ledger/retention.go"
	releaseGo     = "ledger/release.go"
	rebuildGo     = "ledger/rebuild.go"
	quarantineGo  = "ledger/quarantine.go"
	stripeQuarGo  = "receiver/stripe/quarantine.go"
	schemaGo      = "ledger/schema.go"
	copyGo        = "ledger/copy.go"
	backupsGo     = "ledger/backups.go"
	codecGo       = "ledger/codec.go"
	clientGo      = "receiver/stripe/api.go"
	callsGo       = "receiver/stripe/calls.go"
	reconcileGo   = "receiver/reconcile/reconcile.go"
	budgetGo      = "receiver/reconcile/budget.go"
	compareGo     = "receiver/reconcile/compare.go"
	accountsGo    = "receiver/reconcile/accounts.go"
	gapGo         = "receiver/reconcile/gap.go"
	problemsGo    = "receiver/reconcile/problems.go"
	findingsGo    = "receiver/reconcile/findings.go"
	objectsGo     = "receiver/reconcile/objects.go"
	endpointGo    = "receiver/cli/endpoint.go"
	probeGo       = "receiver/probe.go"
	signatureGo   = "receiver/stripe/signature.go"
	decodeGo      = "receiver/stripe/decode.go"
	factsGo       = "receiver/stripe/facts.go"
	jsonGo        = "receiver/stripe/json.go"
	documentGo    = "receiver/stripe/document.go"
	receiverGo    = "receiver/receiver.go"
	bodyGo        = "receiver/body.go"
	linesGo       = "receiver/lines.go"
	listenGo      = "receiver/listen.go"
	phaseGo       = "receiver/phase.go"
	groupGo       = "receiver/group.go"
	doorGo        = "receiver/door.go"
	turnAwayGo    = "receiver/turnaway.go"
	waitingGo     = "receiver/waiting.go"
	portGo        = "receiver/port.go"
	systemdGo     = "systemd/systemd.go"
	listenersGo   = "systemd/listeners.go"
	journalGo     = "systemd/journal.go"
	addressesGo   = "receiver/addresses.go"
	certsGo       = "receiver/certificates.go"
	tendGo        = "systemd/tend.go"
	serviceUnit   = "systemd/tillhook.service"
	publicUnit    = "systemd/tillhook.socket"
	privateUnit   = "systemd/tillhook-operator.socket"
	postinst      = "systemd/deb/postinst"
	postrm        = "systemd/deb/postrm"
	operatorGo    = "receiver/operator/operator.go"
	apiGo         = "receiver/operator/api.go"
	filesGo       = "receiver/operator/files.go"
	summaryGo     = "receiver/operator/summary.go"
	verifyGo      = "receiver/cli/verify.go"
	backupGo      = "receiver/cli/backup.go"
	eventsGo      = "receiver/cli/events.go"
	cliClientGo   = "receiver/cli/client.go"
	sendGo        = "receiver/cli/send.go"
	restoreCmdGo  = "receiver/cli/restore.go"
	restoreGo     = "ledger/restore.go"
	progressGo    = "receiver/operator/progress.go"
	configGo      = "receiver/config/config.go"
	settingsGo    = "receiver/config/settings.go"
	serviceGo     = "receiver/config/service.go"
	unitsGo       = "receiver/config/units.go"
	credsGo       = "receiver/config/credentials.go"
	secretsGo     = "receiver/config/secrets.go"
	valuesGo      = "receiver/config/values.go"
	durationsGo   = "receiver/config/durations.go"
	replaceGo     = "receiver/config/replace.go"
	connectionsGo = "receiver/connections.go"
	memoryGo      = "receiver/memory.go"
	folderGo      = "ledger/folder.go"
	faultGo       = "ledger/filefault.go"
	compactGo     = "ledger/compact.go"
	placeGo       = "ledger/place.go"
	listsGo       = "ledger/lists.go"
	hotGo         = "ledger/hot.go"
	clockGo       = "receiver/stripe/clock.go"
	timesGo       = "receiver/reconcile/times.go"
	ledClockGo    = "ledger/clock.go"
)

// table has all entries.
var table = slices.Concat(keeping, folding, exporting, searching)

// keeping has the protections of everything but the fold.
var keeping = []broken{
	// On disk before the answer.
	{"sync", ledgerGo, "InitialMmapSize: mapSize,", "InitialMmapSize: mapSize, NoSync: true,", ".", "TestFailingSync"},
	{"sync, when the power goes", ledgerGo, "InitialMmapSize: mapSize,", "InitialMmapSize: mapSize, NoSync: true,", "./receiver", "TestPowerLoss"},
	{"mend when there is room again", mendGo, "		l.failure.Store(nil)\n", "", "./receiver", "TestNoRoomOnTheDisk"},
	{"a failed commit is not a success, in windows", commitGo, "		return b, fmt.Errorf(\"commit: %w\", err)", "		return b, nil", "./receiver", "TestFaultsInWindows"},
	{"no cores", mainGo, "syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})", "error(nil)", "./receiver", "TestSecretsStaySecret"},
	{"the ledger's folder is its owner's alone", folderGo, "os.Mkdir(dir, 0o700)", "os.Mkdir(dir, 0o755)", "./receiver", "TestSecretsStaySecret"},
	{"no body in the log", receiverGo, "hex.EncodeToString(sum[:]))", "hex.EncodeToString(sum[:]), \"body\", string(body))", "./receiver", "TestSecretsStaySecret"},
	{"forged requests stand back", receiverGo, "r.Ledger.Committing() && time.Now().Before(end)", "false && time.Now().Before(end)", "./receiver", "TestAFrozenDisk"},
	{"an answer is bounded in time", receiverGo, "answerTimeout = 4800 * time.Millisecond", "answerTimeout = time.Hour", "./receiver", "TestAFrozenDisk"},
	{"answer after the commit", eventGo, "	select {\n	case <-p.done:\n		return p.err\n	case <-l.stopped:\n		// The", "	select {\n	default:\n		return nil\n	case <-l.stopped:\n		// The", ".", "TestKillUnderLoad|TestFullDisk"},
	{"a failed commit is not a success", commitGo, "		return b, fmt.Errorf(\"commit: %w\", err)", "		return b, nil", ".", "TestFailingSync"},
	{"mend after a failed commit", mendGo, "		l.failure.Store(nil)\n", "", ".", "TestFullDisk"},
	{"the meta pages are written back", mendGo, "	if err := l.writeMetas(l.unsettled.metas); err != nil {\n		return err\n	}\n", "", "./ledger", "TestAForgottenMetaPage"},
	{"a start settles the file", ledgerGo, "		err = l.settle()", "		err = nil", "./ledger", "TestARestartBelievesTheDisk"},
	{"a commit that hangs is told", eventGo, "took > hangs {", "false && took > hangs {", ".", "TestHangingDisk"},
	{"waiting is bounded in time", eventGo, "	case <-ctx.Done():\n		return late(ctx)\n", "", "./ledger", "TestWaitingIsBounded"},
	{"damaged pages are errors", ledgerGo, "	if r := recover(); r != nil {", "	if r := any(nil); r != nil {", "./ledger", "TestADamagedPageIsAnError"},
	{"a damaged last row", schemaGo, "if r, err := readRow(tx, seqOf(key)); err == nil && r.source == Webhook && r.delivered(tx) {", "if r, err := readRow(tx, seqOf(key)); err != nil {\n			panic(err)\n		} else if r.source == Webhook && r.delivered(tx) {", "./ledger", "TestADamagedLastRowDoesNotStopTheStart"},
	{"the queue weighs what is decoded", commitGo, "weight: int64(len(e.Raw) + queuedOverhead)", "weight: int64(len(body) + queuedOverhead)", "./ledger", "TestAFullQueueRefusesAtOnce"},
	{"repeats in quarantine cost no commit", eventGo, "r.outcome == Quarantined && p.event.Quarantine == \"\"", "r.outcome == Quarantined", "./ledger", "TestRepeatsAreWrittenInTime"},
	{"all repeats are written in time", commitGo, "	if len(l.repeats) == 0 { // else", "	if true { // else", "./ledger", "TestRepeatsAreWrittenInTime"},
	{"slow senders are let go", bodyGo, "c.SetReadDeadline(time.Now().Add(lingerTime))", "nil", ".", "TestStopWithSlowSenders"},
	{"known means durable", eventGo, "	p := newPending(e, l.bodies.encode(e.Raw, e.Type))\n	if err", "	if r, err := l.Event(e.ID); err == nil && r.Outcome != Quarantined {\n		return Result{Status: AlreadyProcessed, Repeat: true}, nil\n	}\n	p := newPending(e, l.bodies.encode(e.Raw, e.Type))\n	if err", ".", "TestARepeatWaitsForTheSync/a_new_event"},
	{"released means durable", eventGo, "	p := newPending(e, l.bodies.encode(e.Raw, e.Type))\n	if err", "	if r, err := l.Event(e.ID); err == nil && r.Outcome != Quarantined {\n		return Result{Status: AlreadyProcessed, Repeat: true}, nil\n	}\n	p := newPending(e, l.bodies.encode(e.Raw, e.Type))\n	if err", ".", "TestARepeatWaitsForTheSync/one_that_was"},
	{"what waits at the end is committed", commitGo, "		batch, stopping := l.gather(ctx, ticker.C)\n", "		if ctx.Err() != nil {\n			return nil\n		}\n		batch, stopping := l.gather(ctx, ticker.C)\n", "./ledger", "TestTheEndCommitsWhatWaits"},
	{"the queue is bounded in events", commitGo, "maxQueued = 8192", "maxQueued = 1 << 16", "./ledger", "TestAFullQueueRefusesAtOnce"},
	{"the queue is bounded in bytes", commitGo, "maxQueuedBytes = 64 << 20", "maxQueuedBytes = 64 << 30", "./ledger", "TestAFullQueueRefusesAtOnce"},

	// Exactly once.
	{"one row an id", bookingGo, "	if !known {", "	if known = false; !known {", "./ledger", "TestOneEventAHundredTimesAtOnceIsBookedOnce"},
	{"repeats are counted", bookingGo, "	r.repeats += n", "	r.repeats += 0 * n", "./ledger", "TestALedgerKeepsWhatItWasGiven"},
	{"quarantine blocks nothing", bookingGo, "old.outcome == Quarantined && e.Quarantine == \"\"", "false && e.ID == \"\"", "./ledger", "TestQuarantineBlocksNothing"},
	{"quarantine is not known", eventGo, "r.outcome == Quarantined && p.event.Quarantine == \"\"", "false", "./ledger", "TestQuarantineBlocksNothing"},
	{"what is booked leaves quarantine", quarantineGo, "	return remove(b.tx, bucketQuarantine, seqKey(seq))", "	return nil", "./ledger", "TestQuarantineBlocksNothing"},
	{"a release appends a row", bookingGo, "	seq := b.last + 1\n", "	seq := b.last + 1\n	if from != 0 {\n		seq = from\n	}\n", "./ledger", "TestAReleaseAppendsARow"},
	{"a body that leaves quarantine is stored once", bookingGo, "		body = bodyOf(from)\n", "		body = p.body\n", "./ledger", "TestAReleaseAppendsARow"},
	{"another body of an event is another body", bookingGo, "p.release || b.sameBody(from, body)", "true", "./ledger", "TestAReleaseAppendsARow"},
	{"check: a body is that of its row", checkGo, "			if other != r.released {", "			if false {", "./ledger", "TestCheckOfReleasedRows"},
	{"a thin event waits for its snapshot", quarantineGo, "	return &quarantineEntry{state: Attention, awaits: snapshot}, nil", "	return &quarantineEntry{state: Attention}, nil", "./ledger", "TestStatesOfTheQuarantine"},
	{"a thin event beside its snapshot is expected", quarantineGo, "	if known {\n", "	if false && known {\n", "./ledger", "TestStatesOfTheQuarantine"},
	{"what was dismissed stays so", quarantineGo, "	if before == Dismissed {", "	if false {", "./ledger", "TestStatesOfTheQuarantine"},
	{"a rebuild keeps what was dismissed", rebuildGo, "err == nil && had != nil && had.state == Dismissed", "err == nil && false", "./ledger", "TestStatesOfTheQuarantine"},
	{"a release is no delivery", bookingGo, "r.source == Webhook && !p.release", "r.source == Webhook", "./ledger", "TestAReleaseIsNoDelivery"},
	{"a release is no delivery after a restart either", schemaGo, "return err == nil && old.received != r.received", "return err == nil && old != nil", "./ledger", "TestAReleaseIsNoDelivery"},
	{"a release judges the state again", releaseGo, "		err := l.reclassify(ctx, e)\n", "		var err error\n", "./ledger", "TestAReleaseJudgesTheStateAgain"},
	{"quarantine books nothing", bookingGo, "		r.outcome, r.facts = Quarantined, Facts{}", "		r.outcome = Quarantined", "./ledger", "TestQuarantineBlocksNothing"},
	{"the mode is bound", ledgerGo, "	if l.livemode != opts.Livemode {", "	if false {", "./ledger", "TestOpenRefuses"},
	{"a held ledger is refused in a moment", ledgerGo, "		Timeout:         time.Millisecond, // one try", "		Timeout:         2 * time.Second,", "./ledger", "TestOpenRefuses/a_second_process"},
	{"an opening waits an instant for the lock", ledgerGo, "err := whileHeld(l.openDB)", "err := l.openDB()", "./ledger", "TestALockHeldForAnInstant"},
	{"a check waits an instant for the lock", lockGo, "lockTries = 6", "lockTries = 1", "./ledger", "TestALockHeldForAnInstant"},
	{"closing a reader unlocks", ledgerGo, "	if l.readOnly {\n		kept", "	if false {\n		kept", "./ledger", "TestClosingUnlocks"},
	{"closing unlocks the file for forked children too", lockGo, "	_ = unlock(f) // closing reports what is wrong with the file\n", "", "./ledger", "TestClosingUnlocks"},
	{"a check of a file unlocks it", checkGo, "	defer func() { _ = unlockAndClose(f) }() // it was only read\n", "	defer f.Close()\n", "./ledger", "TestClosingUnlocks"},
	{"a file cut short is refused", fileGo, "	case uint64(info.Size()) < needed:", "	case false:", "./ledger", "TestOpenRefuses"},
	{"faults in the mapped file are errors", ledgerGo, "	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))\n	defer func() { l.lock(begun, err) }()\n	defer damaged(&err)\n	return l.db.View(", "	defer debug.SetPanicOnFault(debug.SetPanicOnFault(false))\n	defer func() { l.lock(begun, err) }()\n	defer damaged(&err)\n	return l.db.View(", "./ledger", "TestAFileCutShortUnderUs"},
	{"the file is looked at before a batch", commitGo, "		if l.failure.Load() == nil {\n			l.inPlace(", "		if false {\n			l.inPlace(", "./ledger", "TestADeletedLedgerIsWrittenBack"},
	{"the file is looked at before it is acknowledged", commitGo, "		err = l.stillInPlace()\n", "", "./ledger", "TestAFileThatIsLostDuringACommit"},
	{"a file cut short in a commit stays so", faultGo, "found.state == fileInPlace && found.size < l.size {", "false {", "./ledger", "TestAFileThatIsLostDuringACommit"},
	{"the file is looked at between batches", commitGo, "		case <-look:\n			if l.failure.Load() == nil {", "		case <-look:\n			if false {", "./ledger", "TestADeletedLedgerIsWrittenBack/while_nothing_comes"},
	{"a deleted file is written back", faultGo, "		l.rescue.begin(l)\n	} else", "	} else", "./ledger", "TestADeletedLedgerIsWrittenBack/the_file"},
	{"a deleted file is written back at the end", faultGo, "		l.rescue.begin(l)\n		l.rescue.wait()\n", "", "./ledger", "TestADeletedLedgerIsWrittenBack/right_before"},
	{"what was deleted is kept before the next start", faultGo, "	case found.nameless && l.rescue.kept() == \"\":\n		return false\n", "", "./ledger", "TestADeletedLedgerWithoutRoom"},
	{"a moved file is waited for", faultGo, "		return inspect(l.path) == nil\n", "		return true\n", "./ledger", "TestAReplacedLedger"},
	{"a missing ledger leaves a note", faultGo, "		_ = errors.Join(makeDir(filepath.Dir(l.path)), noteMissing(l.path))\n", "", "./ledger", "TestAMovedLedgerIsWaitedFor/its_folder"},
	{"no empty ledger where one is missing", ledgerGo, "		if err := refuseIfMissing(path); err != nil {", "		if err := refuseIfMissing(path); false {", "./ledger", "TestAMovedLedgerIsWaitedFor"},
	{"a file cut short is not read", ledgerGo, "f != nil && f.unreadable {", "f != nil && false {", "./ledger", "TestACutLedgerIsRefused"},
	{"a file that another program wrote to is noticed", faultGo, "	if newest == l.durableTx.Load() {", "	if true {", "./ledger", "TestAnOverwrittenLedger"},
	{"a deleted ledger is held by its folder", folderGo, "	if err := lockFile(folder, syscall.LOCK_EX); err != nil {", "	if err := error(nil); err != nil {", "./ledger", "TestADeletedLedgerIsStillHeld"},
	{"a start deletes what earlier ones left", folderGo, "		removeMatching(dir, newPattern)\n", "", "./ledger", "TestAStartWithoutRoomLeavesNothing"},
	{"a start that fails leaves nothing", folderGo, "		_ = os.Remove(f.Name()) // err says what was wrong\n", "", "./ledger", "TestAStartWithoutRoomLeavesNothing"},
	{"a file system without links holds a copy", copyGo, "	return os.Rename(made, path) //", "	return err //", "./ledger", "TestAFileSystemWithoutLinks"},
	{"a file system without links: a copy replaces no file", copyGo, "unix.RENAME_NOREPLACE)", "0)", "./ledger", "TestAFileSystemWithoutLinks"},
	{"a file system without links keeps the old ledger", rebuildGo, "	return Save(name, l.copyFile, nil)\n", "	return err\n", "./ledger", "TestAFileSystemWithoutLinks"},
	{"what cannot be looked at is not there already", fileGo, "		return fmt.Errorf(\"look whether there is a file %s: %w\", path, err)\n", "		return &taken{path}\n", "./ledger", "TestWhatCannotBeLookedAtIsNotThere"},
	{"readiness says what happened to the file", summaryGo, "	if fault := storage.Fault; fault != nil {", "	if fault := storage.Fault; fault != nil && false {", "./receiver", "TestTheLedgerIsLost"},
	{"locks that bbolt keeps end Run", ledgerGo, "	l.locked.Store(true)\n", "	return\n", "./ledger", "TestAFileEmptiedUnderUs"},
	{"damage keeps nobody from writing", freshGo, "if f.wary && !reachable(", "if false && !reachable(", "./ledger", "TestADamagedPlaceKeepsNobodyFromWriting"},
	{"records stay until they are settled", freshGo, "	if f.settled < len(f.settling) {\n		return nil\n	}\n	var gone", "	var gone", "./ledger", "TestWhatIsFreshIsFound"},
	{"what is fresh stays bounded in bytes", freshGo, "	if f.bytes > generationBytes {", "	if false {", "./ledger", "TestWhatIsFreshStaysBoundedInBytes"},
	{"the newest of what is fresh stands", freshGo, "merge(mergeAll(layers[n/2:]), mergeAll(layers[:n/2]))", "merge(mergeAll(layers[:n/2]), mergeAll(layers[n/2:]))", "./ledger", "TestWhatIsFreshIsFound"},
	{"a damaged key hides no other", edgeGo, "bytes.Compare(key, behind) >= 0 || !sound(key, stored):", "bytes.Compare(key, behind) >= 0:", "./ledger", "TestADamagedKeyHidesNoOther"},
	{"mending is wary of damage", commitGo, "	if !errors.Is(err, errUnreachable) || l.fresh.wary {", "	if true {", "./ledger", "TestMendingBesideDamage"},
	{"a slow body costs no time of the answer", receiverGo, "w.began.Sub(start).Abs() < waveTime", "start.Sub(w.began) < waveTime", "./receiver", "TestDeadlines"},
	{"what came to its place is known", edgeGo, "	return !kept\n", "	return !kept || true\n", "./ledger", "TestWhatIsKnownOfPlaces"},
	{"what is no longer kept is searched for", edgeGo, "			e.at[string(kind)] = key\n", "", "./ledger", "TestWhatIsKnownOfPlaces"},
	{"what lay there before is searched for", edgeGo, "	if string(key) <= at {\n		return false\n	}\n", "	_ = at\n", "./ledger", "TestWhatIsKnownOfPlaces"},
	{"what readers put together is of one generation", versionGo, "last.generation == v.generation && ", "", "./ledger", "TestReadersComeNowAndThen"},
	{"nothing is learned of one customer", dictionaryGo, " || other.customer == l.customer", "", "./ledger", "TestNothingIsLearnedOfOneCustomer"},
	{"nothing is learned of one payment", dictionaryGo, "other.payment == l.payment || ", "", "./ledger", "TestNothingIsLearnedOfOneCustomer"},
	{"nothing is learned of whom nobody knows", dictionaryGo, "	if l.customer == \"\" {", "	if false {", "./ledger", "TestNothingIsLearnedOfOneCustomer"},
	{"nothing is learned of a person", dictionaryGo, "isPersonal := personal[lastName(before)]", "isPersonal := personal[lastName(before)] && false", "./ledger", "TestNothingIsLearnedOfOneCustomer"},
	{"no time is learned", dictionaryGo, " && !isTime(values[0])", "", "./ledger", "TestABodyIsItsValues"},
	{"what is packed as a form is of that form", formGo, "string(rest) == f.texts[len(f.slots)]", "true", "./ledger", "TestABodyIsItsValues"},
	{"what is packed as an id is one of the payment", formGo, "string(tail[:sharedSize]) == string(core)", "true", "./ledger", "TestABodyIsItsValues"},
	{"nothing is learned of few", dictionaryGo, "	if len(bodies) < learnLeast {", "	if false {", "./ledger", "TestNothingIsLearnedOfOneCustomer"},
	{"a damaged dictionary is alone", dictionaryGo, "			text = nil\n", "			text = stored\n", "./ledger", "TestADamagedDictionary"},
	{"what is removed is gone", freshGo, "		err = b.Delete(key)\n", "		err = nil\n", "./ledger", "TestALifeIsTheModels"},
	{"a damaged record of what is fresh", freshGo, "		value, err := unseal(bucketFresh, key, stored)\n		if err != nil {\n			return nil, 0, 0, err\n		}\n", "		value, err := unseal(bucketFresh, key, stored)\n		if err != nil {\n			continue\n		}\n", "./ledger", "TestADamagedRecordOfWhatIsFresh"},
	{"checksums", codecGo, "checksum(bucket, key, value) == binary.BigEndian.Uint32(stored[n:])", "true", "./ledger", "TestCheckFindsEveryDamage"},
	{"checksums hold the key", codecGo, "crc32.Update(crc32.Update(crc32.Checksum(bucket, castagnoli), castagnoli, key), castagnoli, value)", "crc32.Update(crc32.Checksum(bucket, castagnoli), castagnoli, value)", "./ledger", "TestSwappedBodiesAreFound"},
	{"damage fails alone", bookingGo, "		if c, err = b.follow(r, seq); err != nil {\n", "		if c, err = b.follow(r, seq); err != nil {\n			b.writing = true\n			return err\n		}\n		if err != nil {\n", "./ledger", "TestDamageFailsAlone"},
	{"group commit", commitGo, "	for yielded := 0; len(batch) < maxBatch; {", "	for yielded := 0; len(batch) < 1; {", "./ledger", "TestManyEventsShareACommit"},

	// Any order: the table of facts and how each folds.
	{"fold: all events of a payment are folded", changeGo, "append(append(rows, moved...), r)", "append(append(rows[:0], moved...), r)", "./ledger", "TestAnyOrderIsTheModels"},
	{"fold: a link moves what the charge had", changeGo, "present == charge || intent < present", "intent < present", "./ledger", "TestAnyOrderIsTheModels"},
	{"fold: of two PaymentIntents the least has the charge", changeGo, "present == charge || intent < present", "present == charge", "./ledger", "TestAnyOrderIsTheModels"},
	{"fold: only a charge's link moves events", schemaGo, "	case charge:\n", "	case charge || f != nil:\n", "./ledger", "TestHostileLinksKeepTheLedgerSound"},
	{"lists: long ones are stored apart", listsGo, "const maxInline = 16\n", "const maxInline = 1 << 30\n", "./ledger", "TestTheDiskOfManyEvents"},
	{"lists: what is gone is removed", listsGo, "			err = remove(tx, bucketLists, l.keyOf(id, &before[0]))", "			err = nil", "./ledger", "TestLongListsAreTheModels"},
	{"lists: a change leaves what was before it", changeGo, "slices.Concat(c.events, c.come)", "append(slices.Clip(c.events), c.come...)", "./ledger", "TestLongListsAreTheModels"},
	{"lists: proved with their payment", checkGo, "		if have, err := get(c.tx, bucketLists, key); err != nil || !bytes.Equal(have, value) {", "		if have, err := get(c.tx, bucketLists, key); err != nil && len(have) > 0 {", "./ledger", "TestDamagedListsAreFound"},
	{"lists: none of no payment", checkGo, "		{bucketLists, c.listed, \"elements in the lists of payments\", one},\n", "", "./ledger", "TestDamagedListsAreFound"},
	{"a failed transaction is forgotten", commitGo, "			l.hot.clear()\n", "			_ = l.hot\n", "./ledger", "TestWhatWasGivenUpIsForgotten"},
	{"what is remembered of payments is bounded", hotGo, "	for h.size+size > limit {\n", "	for false {\n", "./ledger", "TestWhatIsRememberedIsBounded"},
	{"heavy events are booked one in a commit", commitGo, "	n := min(len(l.heavy), 1)\n", "	n := len(l.heavy)\n", "./ledger", "TestHeavyEventsDoNotHoldOthersUp"},
	{"heavy events are booked before the end", commitGo, "len(l.queue) > 0 || len(l.heavy) > 0 ||", "len(l.queue) > 0 ||", "./ledger", "TestHeavyEventsAreAnswered"},
	{"fold: totals follow the payments", totalsGo, "moved[key].minus(amountsOf(&before[i]))", "moved[key].minus(amounts{})", "./ledger", "TestAnyOrderIsTheModels"},
	{"fold: a total of nothing is no line", totalsGo, "		if total == (amounts{}) {\n", "	if false {\n", "./ledger", "TestAnyOrderIsTheModels"},

	// Upkeep.
	{"a backup before a migration", rebuildGo, "r.done.Schema < schemaVersion && r.opts.BackupDir != \"\"", "false", "./ledger", "TestABackupBeforeAMigration"},
	{"a rebuild is alone", rebuildGo, "lockFile(source.file, syscall.LOCK_EX)", "lockFile(source.file, syscall.LOCK_SH)", "./ledger", "TestARebuildIsAlone"},
	{"a rebuild fills its pages", compactGo, "			b.FillPercent = 1\n", "", "./ledger", "TestARebuildIsCompact"},
	{"a rebuild keeps the owner", rebuildGo, "		return os.Chown(made, int(stat.Uid), int(stat.Gid))", "		return os.Chown(made, -1, int(stat.Gid))", "./ledger", "TestARebuildKeepsTheOwner"},
	{"a rebuild keeps the mode", rebuildGo, "os.Chmod(made, old.Mode().Perm())", "os.Chmod(made, 0o600)", "./ledger", "TestARebuildKeepsTheOwner"},
	{"a migration stops", ledgerGo, "rebuildLocked(ctx, opts, true)", "rebuildLocked(context.Background(), opts, true)", "./ledger", "TestARebuildStops"},
	{"a rebuild that stops leaves no draft", rebuildGo, "		defer os.Remove(draft)\n", "", "./ledger", "TestARebuildStops"},
	{"a rebuild leaves old bodies out", rebuildGo, "		body = nil\n", "", "./ledger", "TestARebuildLeavesOldBodiesOut"},
	{"a damaged total fails alone", bookingGo, "	if c.totals, err = b.newTotals(c.changes); err != nil {\n		return c, err\n	}\n", "	c.totals, _ = b.newTotals(c.changes)\n", "./ledger", "TestADamagedTotalFailsAlone"},
	{"the other mode is not booked", eventGo, "	if e.Livemode != livemode && e.Quarantine == \"\" {", "	if false {", "./ledger", "TestTheOtherModeIsNotBooked"},
	{"retention passes the quarantine", retentionGo, "len(s.rows) == 0 && s.to-s.from < scanSlice {", "len(s.rows) == 0 {", "./ledger", "TestRetentionPassesTheQuarantine"},
	{"a backup of the future is none", backupsGo, " && path <= newest {", " && newest != \"\" {", "./ledger", "TestABackupFromTheFuture"},
	{"a proof walks the pages first", checkGo, "	if err := walkPages(untilAt{ctx, f}, newest); err != nil {", "	if err := walkPages(f, newest); err != nil && false {", "./ledger", "TestWhatIsNoWholeLedgerIsFound"},
	{"both meta pages are proved", checkGo, "	if newest.pages == 0 || second == nil {", "	if second == nil && newest.pages == 0 {", "./ledger", "TestADamagedNewestMetaPageIsFound|TestFlipped"},
	{"retention leaves quarantine alone", retentionGo, "return r.outcome != Quarantined", "return true", "./ledger", "TestRetentionDeletesBodiesThatAreTooOld"},
	{"retention deletes what is too old, no more", retentionGo, "return d.age(r) < d.before }", "return true }", "./ledger", "TestRetentionDeletesBodiesThatAreTooOld"},
	{"retention does not jump with the clock", ledClockGo, "retentionPace = 24", "retentionPace = 1 << 20", "./ledger", "TestRetentionAndAClockAhead"},
	{"retention's time is kept", ledClockGo, "map[string]int64{retentionMark: t.at.UnixMilli()}", "map[string]int64{}", "./ledger", "TestRetentionAndAClockAhead"},
	{"retention follows the newest event", ledClockGo, "	if t.at.Before(made) {", "	if false {", "./ledger", "TestRetentionAndABootIn1970"},
	{"a jump of the clock is reported", ledClockGo, "jumped && l.opts.ClockJumped != nil {", "false {", "./ledger", "TestRetentionAndAClockAhead"},
	{"a date ahead stops no retention", retentionGo, "through = d.lastOverdue(tx, seq, r); through == 0 {", "through = 0; through == 0 {", "./ledger", "TestRetentionAndDatesThatAreWrong"},
	{"a date behind deletes nothing early", retentionGo, "		return max(r.received, created)\n", "		return r.received\n", "./ledger", "TestRetentionAndDatesThatAreWrong"},
	{"a rebuild does not jump with the clock", rebuildGo, "	if seen = timeSeen(from, wall); seen.After(wall) {", "	if seen = wall; seen.After(wall) {", "./ledger", "TestARebuildAndAClockAhead"},
	{"the last event is not of the future", "ledger/schema.go", "	case d.received <= limit:", "	case true:", "./ledger", "TestTheLastEventAndAClockThatWasAhead"},
	{"the last money is not of the future", "ledger/counts.go", "	if r.released == 0 && than > received+secondsADay*1000 {", "	if false {", "./ledger", "TestTheLastEventAndAClockThatWasAhead"},
	{"retention goes on after a step", retentionGo, "if s.more = looked == scanSlice || len(s.rows) == expireStep; s.more {", "if looked == scanSlice || len(s.rows) == expireStep {", "./ledger", "TestRetentionDeletesBodiesThatAreTooOld"},
	{"retention deletes what was released", retentionGo, "					old = append(old, seqKey(r.released))", "					_ = old", "./ledger", "TestRetentionComesBackForWhatWasReleased"},
	{"retention waits for free pages to be used", retentionGo, "		if l.db.Stats().FreePageN < maxFreePages {", "		if true {", "./ledger", "TestRetentionWaitsForFreeSpaceToBeUsed"},
	{"retention of zero keeps all", retentionGo, "	if keep <= 0 {", "	if false {", "./ledger", "TestRetentionOfZeroKeepsAll"},
	{"retention ends with its context", retentionGo, "		case <-ctx.Done():\n			return nil\n", "", "./ledger", "TestRetentionDeletesBodiesThatAreTooOld"},
	{"retention ends with the ledger", retentionGo, "			case errors.Is(err, ErrClosed):", "			case errors.Is(err, ErrHeld):", "./ledger", "TestRetentionEndsWithTheLedger"},
	{"a release keeps when it came", releaseGo, "time.UnixMilli(old.received), raw", "time.Now(), raw", "./ledger", "TestRelease$|TestRetentionComesBack"},
	{"a release books no other event", releaseGo, "	if e.ID != old.id || e.Livemode != old.livemode {", "	if false {", "./ledger", "TestRelease$"},
	{"a release of what is not in quarantine", releaseGo, "	if old.outcome != Quarantined {\n		return", "	if false {\n		return", "./ledger", "TestRelease$"},
	{"all of the quarantine is tried", releaseGo, "		after = last\n", "		after = last | 1<<62\n", "./ledger", "TestReleaseAll"},
	{"a release that is broken off says so", releaseGo, "	return sum, ctx.Err()\n", "	return sum, nil\n", "./ledger", "TestReleaseAll"},
	{"a decoder tries the quarantine once", releaseGo, "	if err != nil || same {", "	if err != nil || same && false {", "./ledger", "TestReleaseOnce"},
	{"another decoder tries the quarantine again", releaseGo, "same = bytes.Equal(last, present)", "same = bytes.Equal(last, present) || last != nil", "./ledger", "TestReleaseOnce"},
	{"a rebuilt ledger is proved", rebuildGo, "	} else if err != nil {\n		return nil, fmt.Errorf(\"the rebuilt", "	} else if err != nil && false {\n		return nil, fmt.Errorf(\"the rebuilt", "./ledger", "TestRebuildRefuses"},
	{"a rebuild keeps the old file", rebuildGo, "	if err := source.keepAs(r.done.Kept); err != nil {", "	if err := error(nil); err != nil {", "./ledger", "TestARebuildGivesTheSame"},
	{"a rebuild leaves nothing behind", rebuildGo, "		defer func() { _ = os.Remove(made) }() //", "		_ = made //", "./ledger", "TestRebuildRefuses"},
	{"a rebuild is of one mode", rebuildGo, "		if r.livemode != r.opts.Livemode {", "		if false {", "./ledger", "TestRebuildRefuses"},
	{"a rebuild misses no row", rebuildGo, "				if len(key) != 8 || seqOf(key) != next {", "				if false {", "./ledger", "TestRebuildRefuses"},
	{"a rebuild keeps what came of an event", rebuildGo, "		if r.outcome == Recorded {\n", "		if true {\n", "./ledger", "TestARebuildGivesTheSame"},
	{"a rebuild keeps bodies", rebuildGo, "return r.put(b, &old.row, seq, bytes.Clone(kept), entry)", "return r.put(b, &old.row, seq, bytes.Clone(nil), entry)", "./ledger", "TestARebuildGivesTheSame"},
	{"a rebuild mends a row", rebuildGo, "	case err != nil && (bodyErr != nil || body == nil || r.opts.Decode == nil):", "	case err != nil:", "./ledger", "TestARebuildMendsARow"},
	{"a rebuild reads bodies again", rebuildGo, "	case body != nil && (r.decode || old.undecoded):", "	case false:", "./ledger", "TestARebuildDecodes"},
	{"a rebuild keeps facts of a body it cannot use", rebuildGo, "e.Quarantine != \"\" || e.ID != old.id ||", "e.ID != old.id ||", "./ledger", "TestARebuildDecodes"},
	{"a rebuild believes no body of another event", rebuildGo, "e.Quarantine != \"\" || e.ID != old.id ||", "e.Quarantine != \"\" ||", "./ledger", "TestARebuildDecodes"},
	{"a rebuild releases", rebuildGo, "		r.usable[seq] = true\n", "", "./ledger", "TestARebuildDecodes"},
	{"a rebuild releases once", rebuildGo, "	delete(r.usable, old.released)\n", "", "./ledger", "TestARebuildGivesTheSame"},
	{"a rebuild makes a released row refer to the old one", rebuildGo, "	made.released = other\n", "", "./ledger", "TestARebuildMendsReleasedRows"},
	{"a rebuild leaves the old row in quarantine", rebuildGo, "made.reason == \"\" && r.releasedLater(from, seq)", "false", "./ledger", "TestARebuildMendsReleasedRows"},
	{"a migration decodes", rebuildGo, "	case body != nil && (r.decode || old.undecoded):", "	case false:", "./ledger", "TestMigration"},
	{"an older ledger is not read as it is", schemaGo, "	if version < schemaVersion {", "	if version == 0 {", "./ledger", "TestAnOlderLedgerIsRefused"},
	{"a copy replaces no file", copyGo, "	err := os.Link(made, path)\n", "	err := os.Rename(made, path)\n", "./ledger", "TestSave"},
	{"a copy that fails leaves nothing behind", copyGo, "	defer func() { _ = os.Remove(made) }()", "	defer func() { _ = made }()", "./ledger", "TestSave"},
	{"a copy is looked at", copyGo, "	if err := inspect(made); err != nil {", "	if err := error(nil); err != nil {", "./ledger", "TestSave"},
	{"a copy is checked", copyGo, "	if check != nil {", "	if false {", "./ledger", "TestSave"},
	{"a spooled file has no name", exportGo, "	if err := os.Remove(f.Name()); err != nil {", "	if err := error(nil); err != nil {", "./ledger", "TestSpool"},
	{"a copy to use is removed", copyGo, "	defer os.Remove(f.Name())\n", "", "./ledger", "TestWithCopy"},
	{"a restore keeps the owner", restoreGo, "		err = f.Chown(int(stat.Uid), int(stat.Gid))\n", "		_ = stat\n", "./ledger", "TestRestoreFrom"},
	{"a restore keeps the permissions", restoreGo, "		mode = like.Mode().Perm()\n", "", "./ledger", "TestRestoreFrom"},
	{"a restore waits for no receiver", restoreGo, "lockFile(old, syscall.LOCK_EX)", "error(nil)", "./ledger", "TestRestoreFrom"},
	{"a restore looks at what it puts there", restoreGo, "err == nil {\n		err = inspect(made)\n", "err == nil {\n", "./ledger", "TestRestoreFrom"},
	{"the ledger is no copy of itself", restoreGo, "	case same:\n", "	case same && false:\n", "./ledger", "TestRestoreFrom"},
	{"backups of other ledgers are theirs", backupsGo, "ModeName(livemode) + \"-\" + id + \"-\"}", "ModeName(livemode) + \"-\" + id[:0] + \"-\"}", "./ledger", "TestBackupsOfSeveralLedgers"},
	{"a migration that fails copies once", backupsGo, "		if r.source.copiedAs(ctx, path) {", "		if false {", "./ledger", "TestAMigrationThatFailsCopiesOnce"},
	{"copies before migrations are not too many", backupsGo, "err = c.prune(now.Add(time.Minute), r.opts.BackupKeep)", "err = nil", "./ledger", "TestAMigrationThatFailsCopiesOnce"},
	{"a holder is of the same device", placeGo, "(device == file.Dev || opens(pid, file))", "(device == file.Dev || pid != 0)", "./ledger", "TestTheHolderOfAnotherFile"},
	{"a backup leaves the reserve", backupsGo, "b.Ledger.copyInto(ctx, b.Dir, w)", "b.Ledger.CopyTo(w)", "./ledger", "TestABackupLeavesTheReserve"},
	{"room is promised once", roomGo, "	k.room.promised += size\n", "	k.room.promised += 0 * size\n", "./ledger", "TestTwoCopiesAndRoomForOne"},
	{"a full disk is no room", exportGo, "noRoom(err, l.tempDir())", "err", "./ledger", "TestAnExportOnAFullDisk"},
	{"a rebuild keeps the id", rebuildGo, "			if r.id != noID {", "			if false {", "./ledger", "TestARebuildGivesTheSame"},
	{"backups are not too many", backupsGo, "	for len(made) > keep {", "	for false {", "./ledger", "TestBackupsRotate"},
	{"backups delete no other file", backupsGo, "filepath.Match(c.prefix+\"????????T??????Z.db\", e.Name())", "filepath.Match(\"*\", e.Name())", "./ledger", "TestBackupsRotate"},
	{"backups wait for the newest's age", backupsGo, "wait = time.Until(at.Add(b.Every))", "wait = 0 * time.Until(at)", "./ledger", "TestBackupsWaitForTheNewestsAge"},
	{"backups are proved", backupsGo, "func(made string) error { return b.Verify(ctx, made) }", "nil", "./ledger", "TestABackupThatIsNotSound"},
	{"a failed backup is tried again soon", backupsGo, "min(b.Every, retryBackup)", "b.Every", "./ledger", "TestABackupThatIsNotSound"},

	// Only Stripe.
	{"the MAC counts", signatureGo, "	if position < 0 {", "	if false {", "./receiver/stripe", "TestSignatures"},
	{"every secret counts", signatureGo, "			position, match = i, secret\n			break\n		}", "			position, match = i, secret\n			break\n		}\n		break", "./receiver/stripe", "TestSignatures"},
	{"the past is bounded", signatureGo, "	case age > v.tolerance:", "	case false:", "./receiver/stripe", "TestSignatures"},
	{"the future is bounded", signatureGo, "	case -age > v.tolerance:", "	case false:", "./receiver/stripe", "TestSignatures"},
	{"one time", signatureGo, "	if timestamps != 1 {", "	if timestamps < 1 {", "./receiver/stripe", "TestSignatures"},
	{"at least one time", signatureGo, "	if timestamps != 1 {", "	if timestamps > 1 {", "./receiver/stripe", "TestSignatures"},
	{"one header line", signatureGo, "	if len(lines) > 1 {", "	if false {", "./receiver/stripe", "TestSignatures"},
	{"spaces are put up with", signatureGo, "strings.TrimLeft(part, \" \\t\")", "part", "./receiver/stripe", "TestSignatures"},
	{"MAC before age", signatureGo, "	position = -1\n", "	if sig.age(now) > v.tolerance {\n		return -1, &Rejection{Code: TimestampTooOld}\n	}\n	position = -1\n", "./receiver/stripe", "TestSignatures"},

	// Nothing authentic is lost or invented.
	{"thin events are held", decodeGo, "	case env.object.is(\"v2.core.event\"):", "	case false:", "./receiver/stripe", "TestQuarantine"},
	{"the other mode is held", decodeGo, "	case e.Livemode != livemode:", "	case false:", "./receiver/stripe", "TestQuarantine"},
	{"ids are bounded", decodeGo, "len(id) > 255", "false", "./receiver/stripe", "TestQuarantine"},
	{"money is an integer", factsGo, "m.unreadable || !isInt && !field.isNull()\n	return n", "m.unreadable && !isInt\n	return n", "./receiver/stripe", "TestQuarantine"},
	{"a payment event holds a payment", factsGo, "want != \"\" && kind != want", "want != \"\" && false", "./receiver/stripe", "TestQuarantine"},
	{"strings are skipped whole", documentGo, "if i = skipEscape(text, i); i < 0 {", "if i++; i < 0 {", "./receiver/stripe", "TestWhatIsTolerated"},
	{"nesting is bounded", documentGo, "depth > maxNesting", "false", "./receiver/stripe", "TestValidIsWhatEncodingJSONTakes"},
	{"control characters are no text", documentGo, "		case c < ' ':\n			return -1, false", "		case c < ' ':\n			i++", "./receiver/stripe", "TestValidIsWhatEncodingJSONTakes"},
	{"the last of two fields stands", jsonGo, "	if d.repeatsName(v.at) {", "	if false {", "./receiver/stripe", "TestTheLastOfTwoFields"},

	// The public door.
	{"the header before the body", receiverGo, "	sig, err := stripe.ParseSignature(req.Header[\"Stripe-Signature\"])\n", "	_, _ = req.Body.Read(make([]byte, 1))\n	sig, err := stripe.ParseSignature(req.Header[\"Stripe-Signature\"])\n", "./receiver", "TestABadHeaderIsRefusedBeforeTheBody"},
	{"a length over the limit", receiverGo, "	if req.ContentLength > r.MaxBody {", "	if false {", "./receiver", "TestTheOrderOfRefusals"},
	{"a body over the limit", bodyGo, "		case int64(len(body)) > r.MaxBody:", "		case false:", "./receiver", "TestNothingHangs"},
	{"a body comes in time", bodyGo, "SetReadDeadline(start.Add(bodyTimeout))", "SetReadDeadline(start.Add(time.Hour))", "./receiver", "TestNothingHangs"},
	{"a header comes in time", doorGo, "headerTimeout = 4 * time.Second", "headerTimeout = time.Hour", "./receiver", "TestNothingHangs"},
	{"bodies share a budget", bodyGo, "	for !in.stopped && b.used+n > b.limit {", "	for false {", "./receiver", "TestBodiesShareTheirMemory"},
	{"memory is given back", bodyGo, "	in.budget.used -= in.held\n", "", "./receiver", "TestBodiesThatStopMakeRoom"},
	{"bodies that stop make room", bodyGo, "			b.stop(oldest.Value.(*intake))\n", "			return false\n", "./receiver", "TestBodiesThatStopMakeRoom"},
	{"every byte of a body counts", bodyGo, "in.take(size - int64(cap(body)))", "in.take(max(size, 64<<10) - max(int64(cap(body)), 64<<10))", "./receiver", "TestBodiesCountFromTheFirstByte"},
	{"a header has few lines", connectionsGo, "maxHeaderLines = 128", "maxHeaderLines = 1 << 20", "./receiver", "TestNothingHangs"},
	{"a header is short", doorGo, "maxHeader - slop,", "maxHeader,", "./receiver", "TestNothingHangs"},
	{"lines of a body are not a header's", connectionsGo, "			h.ended = true\n", "", "./receiver", "TestNothingHangs"},
	{"strangers make room", connectionsGo, "	if all.strangers.Len() >= maxUnverified {", "	if false {", "./receiver", "TestStrangersMakeRoom"},
	{"young strangers are kept", connectionsGo, "< minAge", "< 0", "./receiver", "TestStrangersMakeRoom"},
	{"closed strangers are waited for", connectionsGo, "	for all.unverified >= maxUnverified+maxClosing && !all.closed {", "	for false {", "./receiver", "TestStrangersMakeRoom"},
	{"the operator is no stranger", connectionsGo, "		verified(req)\n", "", "./receiver", "TestThePrivateDoorKeepsItsConnections"},
	{"an honest sender is no stranger", receiverGo, "	verified(req)\n", "", "./receiver", "TestAnHonestConnectionIsKept"},
	{"memory is bounded", memoryGo, "debug.SetMemoryLimit(min(", "_ = (min(", "./receiver", "TestMemoryIsBounded"},
	{"the control group's memory counts", memoryGo, "least = min(least, n)", "_ = n", "./receiver", "TestTheControlGroupsMemory"},
	{"rejections do not fill the log", bodyGo, "now.Sub(last) < t.every", "false", "./receiver", "TestTheLog"},
	{"the log's last lines are written", linesGo, "ctx.Err() != nil && l.waiting.Len() == 0 && lost == 0", "ctx.Err() != nil", "./receiver", "TestLinesAreWrittenTogether"},
	{"the log is bounded", linesGo, "l.waiting.Len()+len(line) > maxLines", "false", "./receiver", "TestALogThatIsNotRead"},
	{"a log that is not read stops nothing", linesGo, "maxWait = 100 * time.Millisecond", "maxWait = time.Hour", "./receiver", "TestTheProgramAndALogThatIsNotRead"},
	{"a log that is not read is waited for once", linesGo, "maxWait - time.Since(l.fullSince)", "maxWait", "./receiver", "TestALogThatIsNotRead"},
	{"dropped lines are reported", linesGo, "			report(lost)", "			_ = report", "./receiver", "TestALogThatIsNotRead"},
	{"a log that cannot be written is not written about", linesGo, "		if failed { //", "		if false { //", "./receiver", "TestALogThatCannotBeWritten"},
	{"dropped lines are a finding", mainGo, ", r.lines.Findings())", ")", "./receiver", "TestTheProgramAndALogThatIsNotRead"},
	{"dropped lines are counted", mainGo, "	r.metrics.WatchLog(lines.Dropped)\n", "", "./receiver", "TestTheProgramAndALogThatIsNotRead"},
	{"what was read is answered", doorGo, "d.server.Shutdown(ctx)", "d.server.Close()", "./receiver", "TestShutdownAnswersWhatWasRead"},
	{"what is on its way is answered", doorGo, "drainTime = 300 * time.Millisecond", "drainTime = 0", ".", "TestStopUnderLoad"},
	{"the longest idle makes room", connectionsGo, "	oldest.evict(&all.strangers)", "	return false", "./receiver", "TestACrowdOfIdleConnections"},
	{"a 503 says when to come again", receiverGo, "		h.Set(\"Retry-After\", retryAfter)\n", "", ".", "TestFullDisk"},

	// The private door.
	{"foreign hosts", operatorGo, "	if !op.isOwnHost(r) {", "	if false {", "./receiver/operator", "TestAnotherSitesPageIsRefused"},
	{"foreign origins", operatorGo, "!strings.EqualFold(u.Host, r.Host)", "false", "./receiver/operator", "TestAnotherSitesPageIsRefused"},
	{"foreign fetches", operatorGo, "site != \"none\" && site != \"same-origin\"", "site != \"none\" && site != \"same-origin\" && false", "./receiver/operator", "TestAnotherSitesPageIsRefused"},
	{"no login, no data", operatorGo, "		case \"/metrics\", \"/healthz\", \"/readyz\":", "		case \"/metrics\", \"/healthz\", \"/readyz\", \"/api/payments\":", "./receiver/operator", "TestOnTCPOnlyMetricsAndHealthAnswer"},
	{"unknown parameters", apiGo, "		q.fail(\"unknown parameter %q\", name)", "		_ = name", "./receiver/operator", "TestQueries"},
	{"a path has its method", operatorGo, "		if !slices.Contains(methods, r.Method) {", "		if false {", "./receiver/operator", "TestWhatIsAskedOfTheNewPaths"},
	{"only a POST releases", operatorGo, "op.release, http.MethodPost)", "op.release, http.MethodPost, http.MethodGet)", "./receiver/operator", "TestWhatIsAskedOfTheNewPaths"},
	{"no export to be thrown away", operatorGo, "op.export, http.MethodGet)", "op.export, http.MethodGet, http.MethodHead)", "./receiver/operator", "TestWhatIsAskedOfTheNewPaths"},
	{"no login, no copy", operatorGo, "		case \"/metrics\", \"/healthz\", \"/readyz\":", "		case \"/metrics\", \"/healthz\", \"/readyz\", \"/api/backup\":", "./receiver/operator", "TestWhatIsAskedOfTheNewPaths"},
	{"only a receiver releases", operatorGo, "	case errors.Is(err, ledger.ErrReadOnly):", "	case false:", "./receiver/operator", "TestAReadOnlyLedgerReleasesNothing"},
	{"copies under way are few", filesGo, "maxSpools = 2\n", "maxSpools = 200\n", "./receiver/operator", "TestStalledClientsStopNobody"},
	{"a copy's place is given back", searchGo, "return func() { <-places }, nil", "return func() {}, nil", "./receiver/operator", "TestWhatIsNotTakenToItsEndIsBrokenOff"},
	{"what is cut short is broken off", filesGo, "		panic(http.ErrAbortHandler) // closing the connection is the only way left to say so\n", "", "./receiver/operator", "TestWhatIsNotTakenToItsEndIsBrokenOff"},
	{"who stops reading is let go", filesGo, "stallTime = 2 * time.Minute", "stallTime = 24 * time.Hour", "./receiver/operator", "TestAClientMayBeSlowButNotStop"},
	{"stopping breaks copies off", filesGo, "	cut := context.AfterFunc(stopping, func() { _ = c.SetWriteDeadline(time.Now()) })\n", "	cut := func() {}\n", "./receiver/operator", "TestStoppingBreaksCopiesOff"},
	{"who reads slowly is not", filesGo, "next := time.Now().Add(stallTime)", "next := time.Now().Add(0 * stallTime)", "./receiver/operator", "TestAClientMayBeSlowButNotStop"},
	{"a proof may take long", operatorGo, "	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(sendTime)) //", "	//", "./receiver/operator", "TestAProofTakesItsTime"},
	{"a proof nobody waits for ends", filesGo, "op.Verify(r.Context(), path)", "op.Verify(context.WithoutCancel(r.Context()), path)", "./receiver/operator", "TestAProofTakesItsTime"},
	{"a copy is proven, not the ledger", filesGo, "op.Verify(r.Context(), path)", "op.Verify(r.Context(), op.Ledger.Path())", "./receiver/operator", "TestVerify"},
	{"a receiver answers in time", progressGo, "	w.timer = time.AfterFunc(c.AnswerTime,", "	w.timer = time.AfterFunc(1000*c.AnswerTime,", "./receiver/operator", "TestASilentReceiver"},
	{"an answer gets on", progressGo, "		w.timer.Reset(w.client.StallTime)\n", "		w.timer.Stop()\n", "./receiver/operator", "TestASilentReceiver"},
	{"signs of work are waited for", progressGo, "			if now := figure(); now != last {", "			if now := figure(); now != last && false {", "./receiver/operator", "TestProgressIsWaitedFor"},
	{"work that stands still is given up", progressGo, "			if now := figure(); now != last {", "			if now := figure(); now != last || true {", "./receiver/operator", "TestProgressIsWaitedFor"},
	{"who reads slowly is not given up", progressGo, "	b.watch.pause()\n", "", "./receiver/operator", "TestAProofIsWaitedFor"},
	{"signs of progress are asked for", progressGo, "	if r.Header.Get(progressHeader) == \"\" {", "	if false {", "./receiver/operator", "TestSignsOfProgressAreAskedFor"},
	{"a summary tells of the disk", summaryGo, "say(\"storage\", storage.Err != nil,", "say(\"storage\", false,", "./receiver/operator", "TestASummaryTellsThatTheDiskFails"},

	// The commands.
	{"an unsound file fails", verifyGo, "	if !proof.Sound {\n		return &proof, fmt", "	if false {\n		return &proof, fmt", ".", "TestScripts/backup"},
	{"a rebuild names who must stop", backupGo, "		if errors.Is(err, ledger.ErrHeld) {", "		if false {", ".", "TestScripts/rebuild"},
	{"a caller's folder is that folder", settingsGo, "ownDir && socket != inside", "false", ".", "TestScripts/service"},
	{"only its own service is asked about a folder", settingsGo, "		if sameFolder(service.DataDir, dir) {\n			add(", "		if true {\n			add(", "./receiver/config", "TestTheCallersFolder"},
	{"an instance that is not there", serviceGo, "		if !slices.Contains(known, instance) {", "		if false {", "./receiver/config", "TestInstances"},
	{"a passed socket counts", serviceGo, "		s.Socket = passed\n", "", "./receiver/config", "TestInstances"},
	{"drop-ins in the order of their names", unitsGo, "		if _, known := found[e.Name()]; !known", "		if _, known := found[e.Name()]; !known || known", "./receiver/config", "TestUnitsAndDropIns"},
	{"an empty setting takes back those before", unitsGo, "			values = nil\n", "", "./receiver/config", "TestUnitsAndDropIns"},
	{"one variable replaces one", settingsGo, "value == \"\" || s.own[name] != \"\" ||", "value == \"\" || len(s.own) > 1 ||", "./receiver/config", "TestTheServicesSettings"},
	{"a secret replaces its other forms", settingsGo, "			s.replaced = append(s.replaced, name)\n", "", "./receiver/config", "TestACallersSecretReplacesTheServices"},
	{"the socket unit says where to send", settingsGo, "		listen, _ = s.Listens()\n", "", "./receiver/config", "TestWhereEventsAreSent"},
	{"encrypted secrets are decrypted", credsGo, "			sealed = c.encrypted\n", "", "./receiver/config", "TestEncryptedCredentials"},
	{"who may not read is told to be root", settingsGo, "	case errors.Is(err, fs.ErrPermission):\n		r.barred = err\n", "	case errors.Is(err, fs.ErrPermission):\n", "./receiver/config", "TestSecretsOfAnotherUser"},
	{"upkeep needs no secret", settingsGo, "	r.faults = slices.DeleteFunc(r.faults,", "	_ = slices.DeleteFunc(r.faults,", "./receiver/config", "TestUpkeepNeedsNoSecret"},
	{"a rebuild takes the ledger's mode", backupGo, "	cfg.Livemode = header.Livemode\n", "	cfg.Livemode = !header.Livemode\n", ".", "TestScripts/rebuild"},
	{"a stranger's 200 is no success", sendGo, "	return d.Received != nil && (", "	return d.received() || (", "./receiver", "TestSendKnowsAStranger"},
	{"an interrupted command says so", cliGo, "	if errors.As(context.Cause(ctx), &signaled) {", "	if false {", "./receiver", "TestAnInterruptedCommandSaysSo"},
	{"a prompt hears a signal", cliGo, "	escaped.Stdin = interruptible{ctx, p.Stdin}\n", "", "./receiver", "TestAnInterruptedPrompt"},
	{"Stripe is waited for in seconds", endpointGo, "context.WithTimeout(ctx, endpointTime)", "context.WithTimeout(ctx, 100*endpointTime)", "./receiver", "TestASilentStripe"},
	{"a comparison stands still with Stripe", "receiver/operator/reconcile.go", "fmt.Sprintf(\"%+v\", op.Comparer.Progress())", "fmt.Sprint(time.Now())", "./receiver", "TestASilentStripe"},
	{"what another user's folder holds is not known", "receiver/cli/doctor_machine.go", "	if errors.Is(err, fs.ErrPermission) {\n		d.unknown(\"data_dir\",", "	if false {\n		d.unknown(\"data_dir\",", "./receiver", "TestADoctorAndTheDisk"},
	{"what is not held is not asked about", cliClientGo, "err == nil && !held", "err == nil && false", "./receiver", "TestAFolderThatNobodyHolds"},
	{"a proof that hangs is given up", verifyGo, "		if time.Since(since) > stuck {", "		if false && time.Since(since) > stuck {", "./receiver/cli", "TestAChildThatHangs"},
	{"a restore stops the service", restoreCmdGo, "changeUnits(ctx, \"stop\", r.units...)", "error(nil)", ".", "TestScripts/service"},
	{"a restore starts what ran", restoreCmdGo, "		defer func() { err = errors.Join(err, r.start(ctx)) }()\n", "", ".", "TestScripts/service"},
	{"what is left in quarantine is told", eventsGo, "				if e.Outcome == ledger.Quarantined {\n					left++\n", "				if false {\n					left++\n", ".", "TestScripts/quarantine"},

	// The configuration.
	{"unknown names", configGo, "	r.refuseUnknown()\n", "", "./receiver/config", "TestFaults"},
	{"one source a secret", secretsGo, "	if len(sources) > 1 {", "	if false {", "./receiver/config", "TestSecretsFromFilesAndCredentials"},
	{"no tolerance of 0", valuesGo, "		case d == 0:", "		case false:", "./receiver/config", "TestFaults"},
	{"a retention below a day is confirmed", durationsGo, "d >= day || sure", "d > 0 || sure", "./receiver/config", "TestFaults"},
	{"months are not guessed", durationsGo, "+suggestDays(value)", "", "./receiver/config", "TestFaults"},
	{"key and mode agree", secretsGo, "keyMode != \"\" && mode != keyMode", "false", "./receiver/config", "TestFaults"},
	{"a blank credential is none", settingsGo, " && !isBlank(path)", "", "./receiver/config", "TestSecretsFromFilesAndCredentials"},

	// Stripe's API.
	{"what Stripe is too busy for is tried again", clientGo, "tries == callTries || !try.busy() ||", "true ||", "./receiver/stripe", "TestCallsThatFail"},
	{"what Stripe refuses is not tried again", clientGo, "tries == callTries || !try.busy() ||", "tries == callTries ||", "./receiver/stripe", "TestCallsThatFail"},
	{"Retry-After is heeded", clientGo, "	if try.retryAfter >= 0 {", "	if false {", "./receiver/stripe", "TestRetryAfter"},
	{"the key stays where it was sent", clientGo, "CheckRedirect: refuseRedirect}", "}", "./receiver/stripe", "TestARedirectIsNotFollowed"},
	{"no part of a key is told", clientGo, "withoutKeys(refused.Msg, longestMessage)", "refused.Msg", "./receiver/stripe", "TestWhatIsSaidOfARefusal"},
	{"an object of the other mode is refused", callsGo, "*o.Livemode != livemode", "false", "./receiver/stripe", "TestObjectsAreFetched"},
	{"every call names the version", clientGo, ", \"Stripe-Version\": {PinnedVersion}}", "}", "./receiver/stripe", "TestCallsNameTheVersion"},
	{"a fetch has the version of its answer", callsGo, "account.Context, as.version, as.date", "account.Context, PinnedVersion, as.date", "./receiver/stripe", "TestCallsNameTheVersion"},
	{"a member is named by its context", clientGo, "	case a.Context != \"\":", "	case false:", "./receiver/stripe", "TestCallsNameTheAccount"},
	{"a fetch is not of the future", clientGo, "t.api.Clocks().Earlier().Unix()", "t.api.Clocks().Later().Unix()", "./receiver/stripe", "TestAFetchIsNotOfTheFuture"},
	{"an unreadable object hides no other", callsGo, "			page.Skipped = append(page.Skipped, err)\n			continue\n", "			return Page{}, err\n", "./receiver/stripe", "TestAnUnreadableObjectIsSkipped"},
	{"a short list ends", listsGo, "	for range most {", "	for {", "./receiver/stripe", "TestShortListsEnd"},
	{"a circle of endpoints ends", listsGo, "		if seen[at] {", "		if false {", "./receiver/stripe", "TestShortListsEnd"},
	{"a short list is bounded in bytes", listsGo, "size > maxListBytes {", "false {", "./receiver/stripe", "TestALargeListOfEndpoints"},
	{"an unreadable entry hides no other", listsGo, "				skipped = append(skipped, fmt", "				return nil, err\n				skipped = append(skipped, fmt", "./receiver/stripe", "TestUnreadableEntries"},
	{"a page that is too long is halved", listsGo, "!errors.Is(err, ErrLong) || limit == 1 {", "!errors.Is(err, ErrLong) || limit > 0 {", "./receiver/stripe", "TestAPageThatIsTooLong"},
	{"a long answer is not asked for again", clientGo, "	return !t.long && (", "	return (", "./receiver/stripe", "TestAPageThatIsTooLong"},
	{"every try takes a call", clientGo, "		if spend != nil {", "		if spend != nil && tries == 1 {", "./receiver/reconcile", "TestRetriesAreCounted"},
	{"Stripe's words are readable", clientGo, "	if text = ledger.Escape(text); len(text) > most {", "	if _ = ledger.Escape(text); len(text) > most {", "./receiver/stripe", "TestWhatStripeSaysIsReadable"},
	{"Stripe's words are short", clientGo, "	cut := len(text) > most\n", "	cut, most := false, 1<<30+most\n", "./receiver/stripe", "TestWhatStripeSaysIsReadable"},
	{"a network error is readable", clientGo, "	err = &readableError{err} //", "	_ = &readableError{err} //", "./receiver/stripe", "TestANetworkErrorIsReadable"},
	{"a Retry-After is bounded", clientGo, "*time.Second, longestBar)", "*time.Second, 1<<62)", "./receiver/stripe", "TestAnswersAreBounded"},
	{"a long Retry-After is said", clientGo, "		if asked > int(longestBar/time.Second) {", "		if false {", "./receiver/stripe", "TestOddRetryAfters"},
	{"a checkpoint stays before the last minutes", compareGo, "min(end, now.Add(-unsettled).Unix())", "end", "./receiver/reconcile", "TestTheMark"},
	{"a checkpoint leaves no gap", compareGo, "(w.request.Since == 0 || checkpoint != 0 && span.From <= checkpoint)", "true", "./receiver/reconcile", "TestTheMark"},
	{"a checkpoint stands behind nothing unread", compareGo, "		s, err := w.slice(ctx, a, span.At, end, typed)\n		if err != nil {\n			return err\n", "		s, err := w.slice(ctx, a, span.At, end, typed)\n		if err != nil {\n			s.whole = true\n", "./receiver/reconcile", "TestTheMark"},
	{"a checkpoint does not pass our clock", clockGo, "	if c.Stripe.Before(c.Ours) {", "	if true {", "./receiver/reconcile", "TestAClockFromTheFuture"},
	{"a Date that was seen to be wrong is not believed", clockGo, "	if c.seen.IsZero() || !c.Earlier()", "	if true || !c.Earlier()", "./receiver/reconcile", "TestClocksThatAreWrong/date"},
	{"without evidence nothing is dated", clockGo, "return c.Earlier(), !c.seen.IsZero()", "return c.Earlier(), true", "./receiver/stripe", "TestClocks"},
	{"an event of the future proves nothing", clockGo, "!seen.After(c.Later().Add(seenSlack)) {", "true {", "./receiver/stripe", "TestClocks"},
	{"Stripe's clock runs on its own", clockGo, "p.date.Add(time.Since(p.read))", "c.Ours.Add(p.date.Sub(p.read))", "./receiver/reconcile", "TestAMidnightOfAnotherYear|TestClocksThatAreWrong"},
	{"a gap needs both clocks", gapGo, "	if !clocks.Known || begin >= oldest.Unix() {", "	if begin >= oldest.Unix() {", "./receiver/reconcile", "TestNothingContradictsTheClock"},
	{"what was listed is no gap", gapGo, "	begin = max(begin, a.newest)\n", "", "./receiver/reconcile", "TestNothingContradictsTheClock"},
	{"a gap of the future is none", timesGo, "	if w.gap.found > limit.Unix() && clocks.Agree() {", "	if false {", "./receiver/reconcile", "TestNothingContradictsTheClock"},
	{"a gap waits for both clocks", timesGo, "	case checkpoint != 0 && checkpoint < now.Add(-reach).Unix():\n		return !c.Contradict()\n", "", "./receiver/reconcile", "TestAGapBehindAWrongDate"},
	{"a refusal is dated by the believed clock", timesGo, "return r.API.Clocks().Corrected() }", "return r.API.Clocks().Ours }", "./receiver/reconcile", "TestARefusalAndAClockOfAnotherYear"},
	{"a clock that goes back renews no calls", budgetGo, "budget{day, calls}, 0", "budget{day, calls * 0}, 0", "./receiver/reconcile", "TestTheBudgetAndClocksThatJump"},
	{"a budget of the future ends", budgetGo, "	case day < r.spent.day: //", "	case false: //", "./receiver/reconcile", "TestTheBudgetAndClocksThatJump"},
	{"a midnight is within a day", reconcileGo, "next = time.Now().Add(r.untilMidnight())", "next = r.midnight()", "./receiver/reconcile", "TestAMidnightOfAnotherYear"},
	{"only a date of the span counts", compareGo, "		if from <= e.Created && e.Created < to {", "		if true {", "./receiver/reconcile", "TestAnEventThatIsNone"},
	{"a slice is bounded in bytes", compareGo, "			if s.bytes > maxSliceBytes {", "			if false {", "./receiver/reconcile", "TestLargeEvents"},
	{"an endless list costs few calls", reconcileGo, "				pause = max(every, endlessPause)\n", "", "./receiver/reconcile", "TestEndlessListsAndTheBudget"},
	{"an unreadable endpoint is told", reconcileGo, "		w.problem(\"endpoint/\"+keyOf(err), \"%v\", err)\n", "		_ = err\n", "./receiver/reconcile", "TestAnUnreadableEndpoint"},
	{"a call from the future is none", accountsGo, "*value > future {", "*value > future && false {", "./receiver/reconcile", "TestAnAccountThatLeft"},
	{"a checkpoint from the future is none", compareGo, "		checkpoint = 0 // a wrong", "		_ = 0 // a wrong", "./receiver/reconcile", "TestAStripeBehindUs"},
	{"a round begins before the checkpoint", reconcileGo, "overlap      = time.Hour", "overlap      = 0 * time.Hour", "./receiver/reconcile", "TestTheMark"},
	{"a round a day begins further back", compareGo, "			back = dailyOverlap\n", "", "./receiver/reconcile", "TestTheLargeOverlap"},
	{"a slice that is too long is halved", compareGo, "	if to-from == 1 {", "	if true {", "./receiver/reconcile", "TestManyEventsAtOnce"},
	{"where little happens one call reads it", compareGo, "	groups := [][]string{nil}\n", "	groups := stripe.TypeGroups()\n", "./receiver/reconcile", "TestTheFirstRoundIsShort|TestThreeHundred"},
	{"a list that leads back ends", compareGo, "		if seen[after] {", "		if false {", "./receiver/reconcile", "TestListsThatDoNotEnd"},
	{"what is known is not delivered again", compareGo, "if known[i] == ledger.Known || known", "if known", "./receiver/reconcile", "TestAnHourThatWasMissed"},
	{"a connected account that left is left out", accountsGo, "		case isRefusal:\n", "		case false:\n", "./receiver/reconcile", "TestAnAccountThatLeft"},
	{"a quiet account is asked once an hour", accountsGo, "	pause := quietEvery\n	if spare", "	pause := every\n	if spare", "./receiver/reconcile", "TestThreeHundredAccounts"},
	{"more than an hourly comparison needs spare calls", budgetGo, "	return r.spentToday()*2*secondsADay < ", "	return true || r.spentToday()*2*secondsADay < ", "./receiver/reconcile", "TestSpareCalls"},
	{"the account compared longest ago is first", accountsGo, "return cmp.Compare(a.checkpoint, b.checkpoint)", "return cmp.Compare(a.ID, b.ID)", "./receiver/reconcile", "TestNoAccountStarves"},
	{"an account uses its share", budgetGo, "	if len(w.accounts) > 1 {", "	if false {", "./receiver/reconcile", "TestALargeBacklog"},
	{"the own account has calls of its own", budgetGo, "	if connected {", "	if false {", "./receiver/reconcile", "TestNoAccountStarves"},
	{"who is refused is asked more rarely", accountsGo, "pause := min(max(quietEvery, time.Duration(a.asked-a.refused)*time.Second), longestRetry)", "pause := quietEvery", "./receiver/reconcile", "TestAnAccountThatLeft"},
	{"who answers again is asked as before", accountsGo, "		a.refused, a.asked, a.status, a.reason = 0, 0, 0, 0\n", "", "./receiver/reconcile", "TestAnAccountThatLeft"},
	{"while all are refused one is asked", accountsGo, "refusedAll && len(queue) == 0 && first != nil", "false && first != nil", "./receiver/reconcile", "TestAKeyWithoutConnect"},
	{"a key without Connect is no success", accountsGo, "c.waiting == 0 && !c.blamesKey()", "c.waiting == 0", "./receiver/reconcile", "TestAKeyWithoutConnect"},
	{"one that left is no failure", accountsGo, "plausible && len(c.suspects) >= others", "plausible && len(c.suspects) >= others || len(c.refused) > 0", "./receiver/reconcile", "TestAnAccountThatLeft"},
	{"who left is known by the time", accountsGo, "		if others >= leftAfter || ours", "		if others < 0 && ours", "./receiver/reconcile", "TestAnAccountThatLeft"},
	{"what cannot be read ends no round", accountsGo, "case ctx.Err() != nil, errors.Is", "case !isRefusal, ctx.Err() != nil, errors.Is", "./receiver/reconcile", "TestAnUnreadableAccount"},
	{"three accounts that fail end a round", accountsGo, "failures == maxFailures", "failures < 0", "./receiver/reconcile", "TestThreeUnreadableAccounts"},
	{"an untyped page that fails is read by types", compareGo, "types == nil && (errors.Is", "types != nil && (errors.Is", "./receiver/reconcile", "TestAnUnreadablePage"},
	{"a revoked key refuses no account", accountsGo, "if refused.Refused() && !unauthorizedBefore {", "if refused.Refused() && !unauthorizedBefore && false {", "./receiver/reconcile", "TestAKeyRevokedDuringARound"},
	{"an account that left is not the key's fault", accountsGo, "plausible := len(c.suspects) > 1 ||", "plausible := len(c.suspects) > 0 ||", "./receiver/reconcile", "TestOneOfFewLeft"},
	{"a lacking permission is the key's fault", accountsGo, "	if c.lacksPermission() {\n		return true", "	if c.lacksPermission() {\n		return false", "./receiver/reconcile", "TestAKeyThatLacksAPermission"},
	{"a permission that is back asks all", accountsGo, "		other.refused, other.asked = w.answeredAt, 0\n", "		continue\n", "./receiver/reconcile", "TestAPermissionThatComesBack"},
	{"an answer ends a refusal", accountsGo, "		if a.answered {\n", "		if err == nil {\n", "./receiver/reconcile", "TestBackWithABacklog"},
	{"a restart shows the accounts", reconcileGo, "		w.setCensus(list)\n", "", "./receiver/reconcile", "TestARestartOnAUsedUpDay"},
	{"the own account waits for no backlog", compareGo, "if other.own() || w.request", "if true || w.request", "./receiver/reconcile", "TestTheOwnAccountBeside"},
	{"refusals are timed by one clock", accountsGo, "return ours.Sub(time.Unix(a.asked, 0))", "return now.Sub(time.Unix(a.asked, 0))", "./receiver/reconcile", "TestARefusalAndAClockAhead"},
	{"a pause too long is told", compareGo, "		w.findGap(a, checkpoint, clocks)\n", "", "./receiver/reconcile", "TestAPause"},
	{"a gap begins where an account is known from", compareGo, "		if begin != 0 {", "		if begin < 0 {", "./receiver/reconcile", "TestAKeyThatComesAfterFortyDays"},
	{"thin events of the own account have calls", budgetGo, "		w.most += (w.available(false) - w.most) / 2\n", "", "./receiver/reconcile", "TestAThinEventOnAUsedUpDay"},
	{"thin events do not wait for a round", reconcileGo, "case <-time.After(min(time.Until(next), thinEvery)):", "case <-time.After(time.Until(next)):", "./receiver/reconcile", "TestAThinEventBetweenRounds"},
	{"an endpoint is ours however its path is written", "receiver/reconcile/audit.go", "path.Clean(\"/\"+a.Path) == path.Clean(\"/\"+b.Path)", "strings.TrimRight(a.Path, \"/\") == strings.TrimRight(path.Clean(b.Path), \"/\")", "./receiver/reconcile", "TestWhatAnAuditSays"},
	{"a gap is told after a restart", gapGo, "	w.noteMark(gapFound, g.found)\n", "", "./receiver/reconcile", "TestAPause"},
	{"a gap is told for a month", gapGo, "now-g.found < int64(gapShown/time.Second)", "true", "./receiver/reconcile", "TestAPause"},
	{"the last success survives", reconcileGo, "		w.noteMark(lastSuccess, w.success.Unix())\n", "", "./receiver/reconcile", "TestTheAlertThatGoesQuiet"},
	{"the last audit survives", reconcileGo, "	w.noteMark(lastAudit, w.now().Unix())\n", "", "./receiver/reconcile", "TestTheAlertThatGoesQuiet"},
	{"a success that never was is a series", reconcileGo, "	w.Metrics.Reconciled(time.Unix(success, 0))\n", "", "./receiver/reconcile", "TestTheAlertThatGoesQuiet"},
	{"a used up day is told", findingsGo, "	if r.used.day != r.today() || r.used", "	if true || r.used", "./receiver/reconcile", "TestAUsedUpDay"},
	{"a problem is logged once", problemsGo, "return fmt.Sprintf(\"%d %s %s\", refused.Status, refused.Path, refused.Code)", "return err.Error()", "./receiver/reconcile", "TestAProblemIsLoggedOnce"},
	{"nightly lists need news", objectsGo, "	return a.newest >= last.Unix()", "	return last.Unix() != 0", "./receiver/reconcile", "TestNightlyLists"},
	{"a list that cannot be read hides no other", objectsGo, "|| !a.own()) || errors.Is(err, stripe.ErrNotStripe):", "|| !a.own()):", "./receiver/reconcile", "TestAnObjectThatCannotBeRead"},
	{"a dry run writes nothing", compareGo, "		if !w.request.DryRun {\n			e.Source", "		if true {\n			e.Source", "./receiver/reconcile", "TestADryRun"},
	{"the day's calls are bounded", budgetGo, "	case spent >= w.most:", "	case false:", "./receiver/reconcile", "TestTheDailyBudget"},
	{"a start does not renew the day's calls", reconcileGo, "	if err := w.loadBudget(); err != nil {\n		return err\n	}\n", "", "./receiver/reconcile", "TestTheDailyBudget"},
	{"calls are counted before they are made", budgetGo, "	if w.spent.calls >= w.kept {", "	if false {", "./receiver/reconcile", "TestCallsAreCounted"},
	{"a round that is stopped counts its calls", budgetGo, "context.WithTimeout(context.WithoutCancel(ctx), keepTime)", "context.WithTimeout(ctx, keepTime)", "./receiver/reconcile", "TestCallsAreCounted"},
	{"only what tells something is written down", objectsGo, "err != nil || !tells", "err != nil || tells && false", "./receiver/reconcile", "TestDoubtfulPayments"},
	{"what was fetched does not end a silence", bookingGo, "r.source == Webhook && !p.release", "!p.release", "./ledger", "TestTheLastEventCameByItself"},
	{"a long Retry-After bars every call", clientGo, "left > longestPause", "false", "./receiver/stripe", "TestRetryAfter"},
	{"a part of the list is not the whole", reconcileGo, "!w.undated && q.Since == 0 {", "!w.undated {", "./receiver/reconcile", "TestAPartOfTheList"},
	{"an account stays known when it is released", releaseGo, "cmp.Or(e.Account, old.account)", "cmp.Or(e.Account, \"\")", "./ledger", "TestTheAccountOfAnEventStays"},
	{"balance transactions are expanded", "receiver/stripe/calls.go", "balance: []string{\"balance_transaction\"}}},", "}},", "./receiver/reconcile", "TestBalanceTransactionsAreExpanded"},
	{"an endpoint of each kind is enabled", "receiver/reconcile/audit.go", "o.Connect() == e.Connect() && o.Enabled() })\n		if !enabled", "o.Enabled() })\n		if !enabled", "./receiver/reconcile", "TestWhatAnAuditSays"},
	{"invoices alone are an alarm", summaryGo, "	if stats.LastSilent.Sub(", "	if false && stats.LastSilent.Sub(", "./receiver/operator", "TestSilentPaymentsAreSaid"},
	{"the session of a payment counts as silent", "ledger/counts.go", "r.outcome != Quarantined && r.paidElsewhere()", "r.outcome == Recorded && r.paidElsewhere()", "./receiver/operator", "TestSilentPaymentsAreSaid"},
	{"a payment that only began is silent", "ledger/counts.go", "(unknown || stale)", "(unknown || stale && false)", "./receiver/operator", "TestSilentPaymentsAreSaid"},
	{"sessions alone are an alarm", "ledger/counts.go", "	if s.silent() {\n", "	if false {\n", "./receiver/operator", "TestSilentPaymentsAreSaid"},
	{"a key without balance transactions does without", "receiver/stripe/expand.go", "	err = read(plain)\n", "	_ = plain\n", "./receiver/reconcile", "TestBalanceTransactionsAreExpanded"},
	{"an account stays known when it is rebuilt", rebuildGo, "cmp.Or(e.Account, r.account)", "cmp.Or(e.Account, \"\")", "./ledger", "TestTheAccountOfAnEventStays"},
	{"a key of another account is told", findingsGo, "	case !known:\n", "	case false:\n", "./receiver/reconcile", "TestAKeyOfAnotherAccount"},
	{"all refunds of a charge are asked for", compareGo, "		if after = page.Next; after == \"\" {", "		if after = page.Next; true {", "./receiver/reconcile", "TestRefundsThatDoNotAddUp"},
	{"a doctor tries connected accounts", "receiver/cli/doctor_stripe.go", "d.acquaintance(ctx, d.connected(ctx))", "d.acquaintance(ctx, true)", "./receiver", "TestADoctorOnAGoodDay"},
	{"what was booked is told with the error", operatorGo, "		answer[\"report\"] = did.Report\n", "", "./receiver/operator", "TestTheDoorsOfAReceiver"},
	{"a thin event leaves quarantine", callsGo, "		e.Quarantine, e.Expected, e.Snapshot = \"\", false, \"\"\n", "", "./receiver/reconcile", "TestThinEventsAreResolved"},
	{"a thin event's snapshot is fetched", objectsGo, "snapshot != \"\" {", "snapshot != \"\" && false {", "./receiver/reconcile", "TestThinEventsFetchTheirSnapshot"},
	{"a thin event about no payment is expected", stripeQuarGo, "e.Expected = e.Expected || t.Type", "_ = e.Expected || t.Type", "./receiver/stripe", "TestWhatIsExpectedInQuarantine"},
	{"a thin event about a payment is not expected", stripeQuarGo, "	if t.aboutIt {\n", "	if t.aboutIt && false {\n", "./receiver/stripe", "TestWhatIsExpectedInQuarantine"},
	{"a test event of a connected account is expected", stripeQuarGo, " || livemode && !e.Livemode && connected(e)", "", "./receiver/stripe", "TestWhatIsExpectedInQuarantine"},
	{"a ping is expected", stripeQuarGo, "e.Type == \"ping\" || strings.HasSuffix(e.Type, \".ping\") || ", "", "./receiver/stripe", "TestWhatIsExpectedInQuarantine"},
	{"a known release train is expected", "receiver/stripe/stripe.go", "return !named || slices.Contains(releaseTrains[:], train)", "return !named || slices.Contains(APIVersions[:], version) && train != \"\"", "./receiver/stripe", "TestExpectedVersions"},
	{"an unknown release train is not expected", "receiver/stripe/stripe.go", "return !named || slices.Contains(releaseTrains[:], train)", "return !named || train != \"\" || slices.Contains(releaseTrains[:], train)", "./receiver/stripe", "TestExpectedVersions"},
	{"only attention is an alarm", summaryGo, "			if state != ledger.Attention {", "			if state == \"\" {", "./receiver/operator", "TestHealthIsSaidInSentences"},
	{"a query is no other URL", "receiver/reconcile/audit.go", "	return a.Scheme == b.Scheme && host(a)", "	return a.RawQuery == b.RawQuery && a.Scheme == b.Scheme && host(a)", "./receiver/reconcile", "TestWhatAnAuditSays"},
	{"connected accounts' types are no others'", "receiver/reconcile/audit.go", "			if e.Connect() == connect {", "			if !connect {", "./receiver/reconcile", "TestWhatAnAuditSays"},
	{"the wrong secret comes before the proxy", "receiver/diagnosis.go", "return \"STRIPE_WEBHOOK_SECRET is probably not that of the endpoint that sends here", "return \"the body was rewritten. The secret is probably not that of the endpoint that sends here", "./receiver", "TestWhySignaturesFail"},
	{"errors that say the same are printed once", eventsGo, "		} else if !said[err.Error()] {", "		} else {", ".", "TestScripts/quarantine"},
	{"nothing is changed at Stripe that was not agreed to", cliGo, "answer == \"y\" || answer == \"yes\"", "true", "./receiver", "TestTheEndpointCommands"},
	{"a secret's file is its owner's", endpointGo, "os.O_EXCL, 0o600)", "os.O_EXCL, 0o644)", "./receiver", "TestTheEndpointCommands"},
	{"a nonce is good once", probeGo, "	end, ok := p.out[nonce]\n	delete(p.out, nonce)\n", "	end, ok := p.out[nonce]\n", "./receiver", "TestProbes"},
	{"a nonce is good for its time", probeGo, "return ok && !now.After(end)", "return ok || now.After(end)", "./receiver", "TestProbes"},
	{"causes are looked for once a minute", receiverGo, "causes: throttle{every: causeEvery}", "causes: throttle{}", "./receiver", "TestWhySignaturesFail"},

	// The service.
	{"who waits is told to try again", turnAwayGo, "w.WriteHeader(http.StatusServiceUnavailable)", "w.WriteHeader(http.StatusOK)", "./receiver", "TestWhoWaitsIsTurnedAway"},
	{"the last answer says so", doorGo, "(w.door.closing.Load() || w.door.open.crowded())", "false", "./receiver", "TestTheLastAnswerSaysSo"},
	{"what the operator's socket shows is made before it is open", mainGo, "	if c.On() {\n		r.certificates = certificates\n	}\n	switch {", "	time.AfterFunc(time.Second, func() { r.certificates = certificates })\n	switch {", ".", "TestTheOperatorsSocketWhileItStarts"},
	{"not ready while it starts", phaseGo, "return \"the receiver is starting: its public door is not open yet\"", "return \"\"", ".", "TestTheOperatorsSocketWhileItStarts"},
	{"not ready while it stops", phaseGo, "		return \"the receiver is stopping\"", "		return \"\"", "./receiver", "TestPhases"},
	{"it says that it stops", mainGo, "	r.phase.Stop()\n", "", ".", "TestStopWithSlowSenders"},
	{"readyz asks whether events are taken", operatorGo, "	} else if op.NotServing != nil {", "	} else if false {", "./receiver/operator", "TestReadyzSaysWhyNoEventsAreTaken"},
	{"parts that end together stop none", groupGo, "	default:\n		return early", "	case <-make(chan error):\n		return early", "./receiver", "TestPartsThatEndTogether"},
	{"an end without an error is told as one", groupGo, "	if err != nil {\n		early =", "	if true {\n		early =", "./receiver", "TestPartsThatEndTogether"},
	{"a passed socket wins", mainGo, "	listeners := r.sockets.Public\n", "	var listeners []net.Listener\n", "./receiver", "TestPassedSockets"},
	{"the operator's passed socket wins", mainGo, "	if len(r.sockets.Operator) == 0 {", "	if true {", "./receiver", "TestPassedSockets"},
	{"a socket's name must mean something", mainGo, "p.sockets.Check(c.Listen); fault != nil {", "p.sockets.Check(c.Listen); fault != nil && false {", "./receiver", "TestAPassedSocketOfAnotherName"},
	{"the public socket is named where it is missing", listenersGo, "if s.fault != nil || len(s.Public) > 0 || len(s.All()) == 0 {", "if true {", "./receiver", "TestThePublicSocketIsMissing"},
	{"callers are answered while the ledger cannot be opened", mainGo, "	if p.isService() && err != nil &&", "	if false && err != nil &&", "./receiver", "TestALedgerThatCannotBeOpened"},
	{"a ledger is tried again", waitingGo, "		again := w.Open()\n", "		again := ctx.Err() // not tried\n		if again == nil {\n			continue\n		}\n", "./receiver", "TestALedgerThatCannotBeOpened"},
	{"a socket outlives the wait for the ledger", waitingGo, "own, err := duplicateListener(l)", "own, err := l, error(nil)", "./receiver", "TestALedgerThatCannotBeOpened"},
	{"a port for metrics keeps no event out", portGo, "		return \"\"\n", "		panic(err)\n", "./receiver", "TestThePortForMetricsIsTaken"},
	{"a port is opened later", portGo, "			p.Open()\n", "", "./receiver", "TestAPortIsOpenedLater"},
	{"a start that fails is over before the answer", mainGo, "		tell = systemd.Failing\n", "", "./receiver", "TestAPassedSocketAndNoConfiguration"},
	{"a start that fails fails", turnAwayGo, "waits || n > 0 && err == nil", "waits || n >= 0 && err == nil", "./receiver", "TestNoConfigurationAndNobodyWaits"},
	{"STOPPING=1 after READY=1", systemdGo, "errors.Join(notify(daemon.SdNotifyReady), notify(", "errors.Join(notify(", "./systemd", "TestAStartThatFailsIsOverFirst"},
	{"faults are separated", systemdGo, "			line.WriteString(\"; \")", "			line.WriteString(\" \")", "./systemd", "TestTheManagerIsTold"},
	{"a file is not the journal", journalGo, "	return os.Getenv(\"JOURNAL_STREAM\") ==", "	return os.Getenv(\"JOURNAL_STREAM\") != \"\" || \"\" ==", "./systemd", "TestWhatGoesToTheJournal"},
	{"a warning has its priority", journalGo, "	case level >= slog.LevelWarn:\n", "	case level > slog.LevelError:\n", "./systemd", "TestLinesHavePriorities"},
	{"one time a line", configGo, "	options.ReplaceAttr = text\n", "	_ = text\n", "./receiver/config", "TestUndatedLines"},
	{"a bad new value is refused", mainGo, "	c, err := config.Load(os.Environ())\n	if err != nil {\n		return err\n	}\n", "	c, err := config.Load(os.Environ())\n	if err != nil {\n		c = r.config\n	}\n", "./receiver", "TestReload"},
	{"a part of a secret is refused on reload", mainGo, "	if err := c.Replaces(r.files); err != nil {\n		return err\n	}\n", "", "./receiver", "TestReload"},
	{"no secret shorter than Stripe's on reload", replaceGo, "		least = whole\n", "", "./receiver/config", "TestSecretsThatLookCutShort"},
	{"a reload reads the API key", mainGo, "		r.api.SetKey(c.SecretKey)\n", "", "./receiver", "TestReloadOfTheAPIKey"},
	{"a refused reload is a finding", mainGo, "		r.notReloaded.Store(&err)\n", "", "./receiver", "TestReloadOfTheAPIKey"},
	{"another key asks again for what was refused", clientGo, "		a.balance.forget()\n", "", "./receiver/stripe", "TestAnotherKey"},
	{"a reload ends with READY", mainGo, "		r.log.Error(\"not reloaded: the configuration stays as it is\", \"error\", err)\n", "		return\n", "./receiver", "TestReload"},
	{"the watchdog waits for the committer", tendGo, "if alive(ctx) == nil {", "if true {", "./receiver", "TestTheWatchdog"},
	{"the committer has come round", commitGo, "	case l.round <- struct{}{}:\n		return nil\n", "	default:\n		return nil\n", "./ledger", "TestTheCommitterComesRound"},
	{"nobody's word on who called", addressesGo, "		proxy = isIn(at, trusted)\n	}\n	lines", "		proxy = true\n	}\n	lines", "./receiver", "TestWhoCalled"},
	{"the other end of a unix socket is a trusted proxy", addressesGo, "proxy := err != nil // a unix socket", "proxy := err != nil && false", "./receiver", "TestStripesAddressesBehindAUnixSocket"},
	{"Stripe's addresses alone", addressesGo, "	if isIn(from, *list) {", "	if true {", "./receiver", "TestOnlyStripesAddressesDeliver"},
	{"TLS 1.2 at least", certsGo, "MinVersion: tls.VersionTLS12, NextProtos", "MinVersion: tls.VersionTLS10, NextProtos", "./receiver", "TestACertificateFromFiles"},
	{"a certificate that is late is told", certsGo, "< min(life/4, 21*24*time.Hour)", "< 0*min(life/4, 21*24*time.Hour)", "./receiver", "TestACertificateFromFiles"},
	{"a certificate that is kept is shown at once", certsGo, "			c.show(name, kept)\n", "", "./receiver", "TestAKeptCertificate"},
	{"a certificate that has ended is not shown", certsGo, " || time.Now().After(cert.Leaf.NotAfter)", "", "./receiver", "TestAKeptCertificate"},
	{"no certificate for other names", certsGo, "	if cert := c.current[name]; cert != nil {", "	for _, cert := range map[string]*tls.Certificate{name: c.current[c.domains[0]]} {", "./receiver", "TestCertificatesByACME"},
	{"a socket that triggers often stays", publicUnit, "TriggerLimitIntervalSec=0\n", "", "./systemd", "TestLifeOfAService/bookworm"},
	{"a service that starts often is started", serviceUnit, "StartLimitIntervalSec=0\n", "", "./systemd", "TestLifeOfAService/bookworm"},
	{"what cannot start is not started again", serviceUnit, "RestartPreventExitStatus=78\n", "", "./systemd", "TestLifeOfAService/bookworm"},
	{"a port in use is named in the receiver's log", serviceUnit, "Wants=tillhook.socket tillhook-operator.socket ", "Requires=tillhook.socket tillhook-operator.socket\nWants=", "./systemd", "TestLifeOfAService/bookworm"},
	{"a socket that is restarted takes the receiver with it", serviceUnit, "PartOf=tillhook.socket tillhook-operator.socket\n", "", "./systemd", "TestLifeOfAService/bookworm"},
	{"an upgrade leaves modes as they are", postinst, "	if [ -z \"$2\" ]; then\n		[ -d /etc/tillhook ] || install", "	if true; then\n		install", "./systemd", "TestLifeOfAService/bookworm"},
	{"installed again, it runs again", postinst, "		removed=yes\n", "		removed=\n", "./systemd", "TestLifeOfAService/bookworm"},
	{"purging deletes no backups", postrm, "\"$dir\"/acme ", "\"$dir\"/acme \"$dir\"/backups ", "./systemd", "TestLifeOfAService/bookworm"},
	{"purging leaves no drop-in", postrm, "/etc/systemd/system/tillhook.*.d ", "", "./systemd", "TestLifeOfAService/bookworm"},
	{"people of the group", privateUnit, "SocketGroup=tillhook\n", "", "./systemd", "TestLifeOfAService/bookworm"},
}
