package app

var OpenAdvice = openAdvice

// The functions of those names.
var (
	GroupMemory = groupMemory
	LimitMemory = limitMemory
	WebhookURL  = webhookURL
)
