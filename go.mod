module github.com/pbs-run/pbs-run

go 1.26.0

require (
	github.com/daulet/tokenizers v1.27.0
	github.com/klauspost/cpuid/v2 v2.4.2
	github.com/nikolalohinski/gonja/v2 v2.9.1
	github.com/nlpodyssey/safetensors v0.0.0-20250209183917-bfb01cc25f7c
	github.com/schollz/progressbar/v3 v3.19.1
	github.com/spf13/cobra v1.10.2
	golang.org/x/sync v0.24.0
)

require golang.org/x/sys v0.46.0 // indirect
