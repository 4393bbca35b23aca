package schema

import (
	"errors"
	"slices"

	"tillhook/ledger/fold"
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
		r, err := DecodeRow(value)
		if err != nil {
			return nil, err
		}
		return r.Encode(), nil
	case storedState:
		s, lengths, err := DecodeHead("pi_3wBTwEKvHadernBl4gdrfNcd", value)
		if err != nil {
			return nil, err
		}
		if lengths != [listKinds]uint64{} {
			return nil, errNotComparable // some of its lists are stored in the bucket lists
		}
		return s.Encode(), nil
	case storedCounts:
		c, err := decodeCounts(value)
		if err != nil {
			return nil, err
		}
		return c.Encode(), nil
	case storedAmounts:
		a, err := DecodeAmounts(value)
		return a.Encode(), err
	case storedLinks:
		links, err := DecodeLinks(sampleCharge, value)
		return EncodeLinks(sampleCharge, links), err
	case storedTotalKey:
		_, _, _, err := ReadTotalKey(value)
		return value, err
	case storedMoved:
		account, list, err := DecodeMoved(value)
		return encodeMoved(account, list), err
	}
	codec, err := NewBodyCodec()
	if err != nil {
		return nil, err
	}
	raw, err := codec.Decode(value)
	if err != nil || len(raw) > len(value) {
		return nil, errors.Join(err, errNotComparable)
	}
	return value, nil
}

// StoredSamples returns a value of each kind, with all fields set.
func StoredSamples() []Sample {
	in := fold.Intent{ID: "pi_3wBTwEKvHadernBl4gdrfNcd", Status: "succeeded", Currency: "eur", Amount: 6480, HasAmount: true,
		AmountReceived: 6480, HasReceived: true, Customer: "cus_1",
		Description: "three notebooks", Metadata: map[string]string{"order": "2417", "shop": "web"},
		LatestCharge: sampleCharge,
		LastError:    &fold.PaymentError{Type: "card_error", Code: "card_declined"}, Created: 1776163468}
	charge := fold.Charge{ID: sampleCharge, Status: "succeeded", Currency: "eur", Amount: 6480, AmountCaptured: 6480,
		AmountRefunded: 800, Captured: true, CaptureUnknown: true,
		Customer: "cus_1", Created: 1776163470,
		BalanceTransaction: &fold.BalanceTransaction{ID: "txn_0", Created: 1776163480, Fee: 120, Currency: "eur"}}
	refund := fold.Refund{ID: "re_1", Charge: "ch_1", Status: "succeeded", Currency: "eur", Amount: 800,
		Reason: "requested_by_customer", Created: 1776163490, Booked: 1776163491, Returned: 1776163499}
	dispute := fold.Dispute{ID: "dp_1", Charge: "ch_1", Status: "lost", Currency: "eur", Amount: 5680, Reason: "fraudulent",
		Created:      1776163500,
		Transactions: []fold.DisputeTransaction{{ID: "txn_1", Amount: -5680, Currency: "eur", Created: 1776163500}}}
	facts := fold.Facts{PaymentIntent: in.ID, Charge: charge.ID, Intents: []fold.Intent{in}, Charges: []fold.Charge{charge},
		Refunds:  []fold.Refund{refund},
		Disputes: []fold.Dispute{dispute}, Sessions: []fold.Session{{ID: "cs_1", PaymentStatus: "paid"}}}
	r := &Row{ID: "evt_3wBTwEKvHadernBlBPBleRA0", Type: "charge.refunded", Account: "acct_1", APIVersion: "2023-10-16",
		Created: 1776163490, Received: 1776163490123,
		Source: Webhook, Outcome: Applied, Size: 2100, Repeats: 3, Facts: facts}
	quarantined := &Row{ID: "evt_2", Livemode: true, Released: 7, Source: Reconcile, Outcome: Quarantined,
		Reason: WrongMode}
	c := Counts{Outcomes: [len(Outcomes)]uint64{5, 1}, Money: 1776163490123, Expired: 7}
	codec, err := NewBodyCodec()
	if err != nil {
		panic(err)
	}
	state := FoldRows(in.ID, false, []*Row{r})
	state.Rows = []uint64{1, 5, 300}
	money := Amounts{Received: fold.SumOf(6480), Refunded: fold.SumOf(-800), Withdrawn: fold.SumOf(5680)}
	return []Sample{
		{storedRow, r.Encode()}, {storedRow, quarantined.Encode()}, {storedState, state.Encode()},
		{storedCounts, c.Encode()}, {storedAmounts, money.Encode()},
		{storedLinks, EncodeLinks(sampleCharge,
			[]Link{{LinkToIntent, "pi_3wBTwEKvHadernBl4gdrfNcd"}, {linkToCharge, "ch_1"}})},
		{storedTotalKey, TotalKey(1776163468, "eur", "acct_1")},
		{storedMoved, encodeMoved("acct_1", []Moved{{"eur", money}, {"usd", Amounts{}}})},
		{storedBody, codec.Encode(slices.Concat(builtinText[:900], []byte("and more")))},
	}
}
