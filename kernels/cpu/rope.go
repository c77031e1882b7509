package cpu

type ropeJob struct{}
