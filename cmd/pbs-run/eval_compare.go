package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/eval"
)

func mergeCommand() *cobra.Command {
	var force, asJSON bool
	cmd := &cobra.Command{
		Use:   "merge OUT",
		Short: "Join the shards of an evaluation into what one run would have written",
		Long: `Join the results of --shard 0/n to n-1/n, which lie in OUT/shard-i-of-n, into OUT/<method>: predictions, manifest, times
and results. All n must be there, done, and of one run.

  pbs-run eval merge runs/longbench`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			results, err := eval.Merge(cmd.Context(), args[0], force)
			if err != nil {
				return err
			}
			return show(evalTable{eval.Table(results)}, asJSON, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "merge shards that are not done or whose manifests differ; the results say so")
	registerJSON(cmd, &asJSON)
	return cmd
}

func compareCommand() *cobra.Command {
	var confidence float64
	var seed uint64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "compare BASE RUN [RUN...]",
		Short: "Is a sparse method really worse? Paired differences with bootstrap confidence intervals",
		Long: `Compare runs over the same samples with the first of them, sample by sample. BASE and RUN are folders of one method each,
below the --out of an evaluation. Each task's mean difference has a confidence interval from the bootstrap over its samples;
a method is called worse or better only where the interval leaves out zero.

  pbs-run eval compare runs/longbench/full runs/longbench/pbs`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := eval.Compare(cmd.Context(), args, confidence, seed)
			if err != nil {
				return err
			}
			return show(pairedTable{r}, asJSON, cmd.OutOrStdout())
		},
	}
	cmd.Flags().Float64Var(&confidence, "confidence", 0.95, "`share` of the bootstrap's draws that the interval holds")
	cmd.Flags().Uint64VarP(&seed, "seed", "s", 42, "seed of the bootstrap")
	registerJSON(cmd, &asJSON)
	return cmd
}

// pairedTable is a report.
type pairedTable struct{ eval.PairedReport }

func (t pairedTable) print(to io.Writer) error { return t.Print(to) }
