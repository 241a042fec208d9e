# trackbench: from raw TrackML (or a simulation of it) to a fair comparison of track finders.
#
#   snakemake --cores all                                  the demo, config/config.yaml
#   snakemake --cores all --configfile config/smoke.yaml   the same on tiny events
#   snakemake --cores all --use-conda                      each rule in its own conda environment
from snakemake.utils import min_version

min_version("9.20")


# A configuration file given on the command line replaces the default one; merging the two would
# leave no way to drop a tracker.
if not workflow.configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/samples.smk"
include: "workflow/rules/rows.smk"
include: "workflow/rules/collision_rows.smk"
include: "workflow/rules/scaling_rows.smk"
include: "workflow/rules/manifests.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/finish.smk"


report: "workflow/report/workflow.rst"


wildcard_constraints:
    run=config["run"],
    sample="|".join(["main", "scan", "effects", "parents", *COLLISION_SETS]),
    shard="[0-9]{4}",
    tracker="[a-z][a-z0-9_]*",
    archive="[A-Za-z0-9_]+",


include: "workflow/rules/data.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/cluster.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/infer.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/effects.smk"
include: "workflow/rules/subevents.smk"
include: "workflow/rules/trackformers.smk"
include: "workflow/rules/studies.smk"
include: "workflow/rules/plot.smk"
include: "workflow/rules/plot_timing.smk"
include: "workflow/rules/collisions.smk"
include: "workflow/rules/scaling.smk"
include: "workflow/rules/provenance.smk"


rule all:
    default_target: True
    input:
        final_results(),
    message:
        "All results are there"


onstart:
    check_credentials()


onsuccess:
    finish_run()


onerror:
    explain_failure(log)
