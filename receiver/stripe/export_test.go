package stripe

// Valid tells whether a text is one JSON value to the reader of bodies.
func Valid(text []byte) bool {
	d, ok := parse(text)
	if ok {
		d.release()
	}
	return ok
}
