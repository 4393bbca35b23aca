package ledger

import (
	"errors"
	"slices"
)

// Sample is a stored value without its checksum.
type Sample struct {
	Kind  byte
	Value []byte
}

// The kinds of stored values.
const (
	storedRow byte = iota
	storedState
	storedCounts
	storedAmounts
	storedLinks
	storedTotalKey
	storedMoved
	storedBody
	storedKinds
)

// BuiltInDictionary returns the dictionary that bodies are compressed against.
func BuiltInDictionary() []byte { return builtinText }

// Words returns the string table: the words, and after them the prefixes of ids.
func Words() []string { return slices.Concat(words[:], idPrefixes[:]) }

// EncodeText encodes a text that is stored under an id, and decodes it again.
func EncodeText(under, text string) (stored []byte, again string, err error) {
	e := encoder{shared: sharedPart(under)}
	e.text(text)
	d := decoder{buf: e.buf, shared: sharedPart(under)}
	again = d.text()
	return e.buf, again, d.end()
}

// sampleCharge is a charge id in the form that Stripe uses.
const sampleCharge = "ch_3wBTwEKvHadernBlVhC6f5rz"

// errNotComparable is returned for a value that is encoded in another form again.
var errNotComparable = errors.New("not comparable")

// Reencode decodes a stored value of a kind and encodes it again.
func Reencode(kind byte, value []byte) ([]byte, error) {
	switch kind % storedKinds {
	case storedRow:
		r, err := decodeRow(value)
		if err != nil {
			return nil, err
		}
		return r.encode(), nil
	case storedState:
		s, lengths, err := decodeHead("pi_3wBTwEKvHadernBl4gdrfNcd", value)
		if err != nil {
			return nil, err
		}
		if lengths != [listKinds]uint64{} {
			return nil, errNotComparable // some of its lists are stored in the bucket lists
		}
		return s.encode(), nil
	case storedCounts:
		c, err := decodeCounts(value)
		if err != nil {
			return nil, err
		}
		return c.encode(), nil
	case storedAmounts:
		a, err := decodeAmounts(value)
		return a.encode(), err
	case storedLinks:
		links, err := decodeLinks(sampleCharge, value)
		return encodeLinks(sampleCharge, links), err
	case storedTotalKey:
		_, _, _, err := readTotalKey(value)
		return value, err
	case storedMoved:
		account, list, err := decodeMoved(value)
		return encodeMoved(account, list), err
	}
	codec, err := newBodyCodec()
	if err != nil {
		return nil, err
	}
	raw, err := codec.decode(value)
	if err != nil || len(raw) > len(value) {
		return nil, errors.Join(err, errNotComparable)
	}
	return value, nil
}

// StoredSamples returns a value of each kind, with all fields set.
func StoredSamples() []Sample {
	in := Intent{ID: "pi_3wBTwEKvHadernBl4gdrfNcd", Status: "succeeded", Currency: "eur", Amount: 6480, HasAmount: true,
		AmountReceived: 6480, HasReceived: true, Customer: "cus_1",
		Description: "three notebooks", Metadata: map[string]string{"order": "2417", "shop": "web"},
		LatestCharge: sampleCharge,
		LastError:    &PaymentError{Type: "card_error", Code: "card_declined"}, Created: 1776163468}
	charge := Charge{ID: sampleCharge, Status: "succeeded", Currency: "eur", Amount: 6480, AmountCaptured: 6480,
		AmountRefunded: 800, Captured: true,
		Customer: "cus_1", Created: 1776163470,
		BalanceTransaction: &Booking{ID: "txn_0", Created: 1776163480, Fee: 120, Currency: "eur"}}
	refund := Refund{ID: "re_1", Charge: "ch_1", Status: "succeeded", Currency: "eur", Amount: 800,
		Reason: "requested_by_customer", Created: 1776163490, Booked: 1776163491, Returned: 1776163499}
	dispute := Dispute{ID: "dp_1", Charge: "ch_1", Status: "lost", Currency: "eur", Amount: 5680, Reason: "fraudulent",
		Created:      1776163500,
		Transactions: []Transaction{{ID: "txn_1", Amount: -5680, Currency: "eur", Created: 1776163500}}}
	facts := Facts{PaymentIntent: in.ID, Charge: charge.ID, Intents: []Intent{in}, Charges: []Charge{charge},
		Refunds:  []Refund{refund},
		Disputes: []Dispute{dispute}, Sessions: []Session{{ID: "cs_1", PaymentStatus: "paid"}}}
	r := &row{id: "evt_3wBTwEKvHadernBlBPBleRA0", typ: "charge.refunded", account: "acct_1", apiVersion: "2023-10-16",
		created: 1776163490, received: 1776163490123,
		source: Webhook, outcome: Applied, size: 2100, repeats: 3, facts: facts}
	quarantined := &row{id: "evt_2", livemode: true, released: 7, source: Reconcile, outcome: Quarantined,
		reason: WrongMode}
	c := counts{outcomes: [len(Outcomes)]uint64{5, 1}, money: 1776163490123, expired: 7}
	codec, err := newBodyCodec()
	if err != nil {
		panic(err)
	}
	state := foldRows(in.ID, false, []*row{r})
	state.rows = []uint64{1, 5, 300}
	money := amounts{received: SumOf(6480), refunded: SumOf(-800), withdrawn: SumOf(5680)}
	return []Sample{
		{storedRow, r.encode()}, {storedRow, quarantined.encode()}, {storedState, state.encode()},
		{storedCounts, c.encode()}, {storedAmounts, money.encode()},
		{storedLinks, encodeLinks(sampleCharge,
			[]link{{linkToIntent, "pi_3wBTwEKvHadernBl4gdrfNcd"}, {linkToCharge, "ch_1"}})},
		{storedTotalKey, totalKey(1776163468, "eur", "acct_1")},
		{storedMoved, encodeMoved("acct_1", []moved{{"eur", money}, {"usd", amounts{}}})},
		{storedBody, codec.encode(slices.Concat(builtinText[:900], []byte("and more")))},
	}
}
