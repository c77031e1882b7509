// Pooling and choice of blocks: plain C.

#include "bf16.h"
#include "vec_portable.h"

#define SISA portable
#define SLEVEL PBS_PORTABLE
#include "select_blocks.h"
