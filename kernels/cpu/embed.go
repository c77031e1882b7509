package cpu

// embedJob is one Embed in flight.
type embedJob struct{}
