#ifndef GUARD_LINUX_H
#define GUARD_LINUX_H

#include <stddef.h>
#include <stdint.h>

struct watch;

// guard_install puts the SIGBUS handler in front of the one that is there. Returns 0 or an errno.
int guard_install(void);

// guard_watch registers a mapping of a file. Returns NULL without memory: the mapping is then not guarded.
struct watch *guard_watch(const void *begin, size_t size);

// guard_fault returns the offset of the first page that was read and gone, or -1.
int64_t guard_fault(const struct watch *w);

// guard_release ends the watch, before its memory is unmapped.
void guard_release(struct watch *w);

#endif
