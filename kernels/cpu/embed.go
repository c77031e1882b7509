package cpu

/*
#include "matmul.h"
*/
import "C"

import (
	"fmt"

	"github.com/pbs-run/pbs-run/kernels"
)

// embedRows is how many rows of the table an item gathers.
const embedRows = 32

// embedJob is one Embed in flight.
type embedJob struct {
	out, table kernels.Tensor
	ids        []int32
}

// Embed gathers and widens rows of table; see kernels.Dense. An id outside the table panics.
func (d *Device) Embed(out, table kernels.Tensor, ids []int32) {
	kernels.CheckMatrix("table", table, table.DType, table.Rows(), table.Cols())
	kernels.CheckMatrix("out", out, kernels.F32, len(ids), table.Cols())
	for i, id := range ids {
		if id < 0 || int(id) >= table.Rows() {
			panic(fmt.Sprintf("cpu: id %d at %d of a table of %d rows", id, i, table.Rows()))
		}
	}
	d.embed = embedJob{out: out, table: table, ids: ids}
	d.pool.run(&d.embed, (len(ids)+embedRows-1)/embedRows)
	d.embed = embedJob{}
}

func (e *embedJob) do(_, i int) {
	for r := i * embedRows; r < min((i+1)*embedRows, len(e.ids)); r++ {
		src := at(e.table, int(e.ids[r]))
		C.pbs_widen((*C.float)(at(e.out, r)), src, C.int32_t(e.table.DType), C.int64_t(e.table.Cols()))
	}
}
