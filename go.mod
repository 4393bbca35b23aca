module tillhook

go 1.26.8

require (
	github.com/klauspost/compress v1.20.3
	go.etcd.io/bbolt v1.5.0
)

require (
	github.com/stripe/stripe-go/v76 v76.25.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
