// What only the operating system of this host can say or do.
#pragma once
#include <stddef.h>

// pbs_request_amx asks for the right to use AMX tiles in every thread of this process; 0 when granted.
int pbs_request_amx(void);

// pbs_advise_huge asks for huge pages behind [p, p+n); p is page aligned.
void pbs_advise_huge(void *p, size_t n);
