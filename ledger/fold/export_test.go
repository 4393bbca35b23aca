package fold

// Scale is scale, for tests.
var Scale = scale
