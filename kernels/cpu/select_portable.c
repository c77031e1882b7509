// Pooling and choice of blocks: plain C.

#include "bf16.h"
#include "vec_portable.h"

#define SISA portable
#include "select_blocks.h"
