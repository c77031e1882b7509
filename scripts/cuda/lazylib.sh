#!/bin/sh
# lazylib.sh CUDA_H DIR: makes DIR/libcuda.a, in which every call of the CUDA driver is a jump that dlopen fills before main
# starts. So the program needs no driver to start; without one every call returns CUDA_ERROR_NO_DEVICE (100), but cuInit, whose
# failure would end the program in an init function of gorgonia.org/cu, succeeds.
set -eu
header=$1
mkdir -p "$2"
cd "$2"
{
	grep -oE '\bcu[A-Z][A-Za-z0-9_]*' "$header" | grep -vE '(_t|_st|_enum|_fn)$'
	# Older entry points that ../include/cuda.h goes back to.
	printf '%s\n' cuMemAdvise cuMemPrefetchAsync cuGraphAddDependencies cuGraphGetEdges cuCtxCreate_v2
} | sort -u >names

case $(uname -m) in
x86_64) jump() { echo "endbr64; jmp *lazycu_table+$(($1 * 8))(%rip)"; } ;;
aarch64) jump() { echo "adrp x16, lazycu_table+$(($1 * 8)); ldr x16, [x16, :lo12:lazycu_table+$(($1 * 8))]; br x16"; } ;;
*) echo "lazylib: no jump is written for $(uname -m)" >&2; exit 1 ;;
esac
{
	echo .text
	i=0
	while read -r name; do
		echo ".globl $name; .hidden $name; .type $name,%function; $name: $(jump $i)"
		i=$((i + 1))
	done <names
	echo ".globl lazycu_table; .hidden lazycu_table; .comm lazycu_table,$((i * 8)),8"
	echo '.section .note.GNU-stack,"",%progbits'
} >jumps.s
{
	printf '#include <dlfcn.h>\n#include <string.h>\nextern void *lazycu_table[] __attribute__((visibility("hidden")));\nstatic const char *const names[] = {'
	sed 's/.*/"&",/' names
	cat <<'C'
0};
static int (*real_init)(unsigned);
static int none(void) { return 100; }
static int init(unsigned flags) {
    if (real_init) real_init(flags);
    return 0;
}
__attribute__((constructor)) static void fill(void) {
    void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL), *at;
    for (int i = 0; names[i]; i++) {
        lazycu_table[i] = lib && (at = dlsym(lib, names[i])) ? at : (void *)none;
        if (strcmp(names[i], "cuInit")) continue;
        if (lib) *(void **)&real_init = dlsym(lib, "cuInit");
        lazycu_table[i] = (void *)init;
    }
}
C
} >fill.c
${CC:-cc} -O2 -fPIC -c fill.c jumps.s
ld -r -o lazycu.o fill.o jumps.o
rm -f libcuda.a
ar rcs libcuda.a lazycu.o
