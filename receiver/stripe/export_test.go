package stripe

// Valid reports whether the decoder accepts a text as one JSON value.
func Valid(text []byte) bool {
	d, ok := parse(text)
	if ok {
		d.release()
	}
	return ok
}
