//go:build cgo

// A file that shrinks while it is mapped leaves pages without a source, and the kernel sends SIGBUS to whoever reads one.
// Go can turn that into a panic, but only for reads by Go code; weights are read by C. So the handler here puts zeroed
// memory where the pages were, notes the place, and returns: the read goes on with zeros wherever it came from. The engine
// asks guard_fault before it trusts a result.
//
// The handler runs on whatever thread faulted, in the middle of anything. It takes no lock, allocates nothing, and calls
// only mmap, which is a bare system call. Watches are therefore a list that only grows: a released one is marked empty and
// used again.

#define _GNU_SOURCE
#include "guard_linux.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct watch {
	struct watch *next;
	_Atomic uintptr_t begin; // 0 for a watch that is free
	_Atomic uintptr_t end;
	_Atomic int64_t fault;
};

static _Atomic(struct watch *) watches;
static struct sigaction previous;
static uintptr_t page_size;

// pass_on gives the signal to the handler that was there before, as if this one did not exist.
static void pass_on(int sig, siginfo_t *info, void *context) {
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(sig, info, context);
	} else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
		previous.sa_handler(sig);
	} else {
		signal(sig, SIG_DFL); // the faulting instruction runs again and ends the process
	}
}

static void on_sigbus(int sig, siginfo_t *info, void *context) {
	int saved = errno;
	uintptr_t at = (uintptr_t)info->si_addr;
	for (struct watch *w = atomic_load(&watches); w; w = w->next) {
		uintptr_t begin = atomic_load(&w->begin), end = atomic_load(&w->end);
		if (info->si_code <= 0 || begin == 0 || at < begin || at >= end) // a code <= 0: somebody sent it
			continue;
		// The rest of the mapping goes with the page. What follows is gone as a rule, and one fault for each page would
		// make a memory area of each, of which a process may have only some 65,000.
		uintptr_t page = at & ~(page_size - 1);
		// Noted before the zeros are there: another thread may read them, and ask, before this one goes on.
		int64_t none = -1;
		atomic_compare_exchange_strong(&w->fault, &none, (int64_t)(page - begin));
		void *got = mmap((void *)page, end - page, PROT_READ,
		                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
		if (got == MAP_FAILED)
			break;
		errno = saved;
		return;
	}
	errno = saved;
	pass_on(sig, info, context);
}

int guard_install(void) {
	page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
	if (sigaction(SIGBUS, NULL, &previous))
		return errno;
	struct sigaction ours = {.sa_sigaction = on_sigbus, .sa_mask = previous.sa_mask};
	ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
	return sigaction(SIGBUS, &ours, NULL) ? errno : 0;
}

struct watch *guard_watch(const void *begin, size_t size) {
	struct watch *w = atomic_load(&watches);
	while (w && atomic_load(&w->begin))
		w = w->next;
	int fresh = !w;
	if (fresh && !(w = calloc(1, sizeof *w)))
		return NULL;
	atomic_store(&w->fault, -1);
	atomic_store(&w->end, (uintptr_t)begin + size);
	atomic_store(&w->begin, (uintptr_t)begin); // last: it makes the others count
	if (fresh) {
		w->next = atomic_load(&watches);
		atomic_store(&watches, w);
	}
	return w;
}

int64_t guard_fault(const struct watch *w) { return atomic_load(&w->fault); }

void guard_release(struct watch *w) { atomic_store(&w->begin, 0); }
