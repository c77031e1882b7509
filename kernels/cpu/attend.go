package cpu

type attendJob struct{}
