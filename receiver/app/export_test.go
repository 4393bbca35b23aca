package app

// The functions of those names.
var (
	GroupMemory = groupMemory
	LimitMemory = limitMemory
	WebhookURL  = webhookURL
)
