# Helpers: what is done and said when the run starts and ends.


def check_credentials():
    """Stop before any job if the real data cannot be downloaded: all else would be made first."""
    if DATA["source"] != "kaggle":
        return
    from trackbench.data.sources import require_credentials

    kaggle = DATA["kaggle"]
    try:
        require_credentials(
            Path(kaggle["directory"], name) for name in kaggle["archives"]
        )
    except TrackbenchError as error:
        raise WorkflowError(str(error)) from None


def finish_run():
    """Write the HTML report and print where everything is."""
    results = Path("results", RUN)
    part = workflow.dag_settings.targets and "all" not in workflow.dag_settings.targets
    if part or not all(Path(path).exists() for path in final_results()):
        print(
            "Part of the workflow is done; the report needs all of it.", file=sys.stderr
        )
        return
    write_json(results / "config.json", config)
    # The report needs the records of the finished run, so it is a second, short Snakemake call.
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--nolock",
    ]
    command += [
        "--configfile",
        str(results / "config.json"),
        "--report",
        str(results / "report.html"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        (results / "report.html").unlink(missing_ok=True)
        print(
            f"The report could not be written:\n{done.stderr.strip()[-2000:]}",
            file=sys.stderr,
        )
    else:
        print(f"Report:  {results / 'report.html'}", file=sys.stderr)
    print(f"Event:   {results / 'figures/event_display_3d.html'}", file=sys.stderr)
    print(f"Tables:  {results / 'tables'}", file=sys.stderr)
    print(f"Figures: {results / 'figures'}", file=sys.stderr)


def explain_failure(log):
    """Repeat the errors of the failed jobs, last, and say what to do."""
    text = "".join(Path(path).read_text(encoding="utf-8") for path in log)
    for line in dict.fromkeys(re.findall(r"(?<=[0-9] )error: .*", text)):
        print(line, file=sys.stderr)
    print(f"The run stopped; its whole log is {', '.join(log)}.", file=sys.stderr)
    print(
        "Run the same command again to go on: finished jobs are kept.", file=sys.stderr
    )
