package cpu

type normJob struct{}
