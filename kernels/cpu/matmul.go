package cpu

// matmulJob is one matrix product in flight.
type matmulJob struct{}
