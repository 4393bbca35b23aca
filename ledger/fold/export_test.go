package fold

// Scale exports scale for tests.
var Scale = scale
