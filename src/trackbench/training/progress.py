"""How far a training is: steps done, the history of its losses and the best weights. All of it is saved and resumed."""

from dataclasses import dataclass, field

# Columns of the history that differ from one training to its repetition.
TIME_COLUMNS = ("events_per_s", "seconds")


@dataclass
class Progress:
    """What changes while training, besides network and optimiser; plain values and tensors only.

    step: steps done; rows: history, see ``TrainedModel``; sums: of each quantity since the last row
    seconds: all sittings together; best: weights of the best validation
    sittings: with what the steps were made: first_step (from 1), last_step, and threads, device, machine and versions;
        sittings in a row with the same are one
    """

    step: int = 0
    rows: list[dict] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    best: dict | None = None
    sittings: list[dict] = field(default_factory=list)

    def add(self, values: dict[str, float]) -> None:
        """Add values of one step to the sums: "train_TERM", "gradient_norm", "steps", "events" and "seconds"."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def close_row(self, epoch: int, rate: float, validation: dict[str, float]) -> None:
        """Make a row of the history of the sums, and begin new ones.

        epoch, rate: epoch and learning rate of the last step; validation: mean of each loss term
        """
        sums, self.sums = self.sums, {}
        steps, events, seconds = sums.pop("steps"), sums.pop("events"), sums.pop("seconds")
        means = {name: total / steps for name, total in sums.items()}
        row = {
            "step": self.step,
            "epoch": epoch,
            "learning_rate": rate,
            **means,
            "train_total": sum(value for name, value in means.items() if name.startswith("train_")),
            **{f"val_{name}": value for name, value in validation.items()},
            "val_total": sum(validation.values()),
            "events_per_s": events / max(seconds, 1e-9),
            "seconds": self.seconds,
        }
        self.rows.append(row)

    def sit(self, made_with: dict) -> None:
        """Note with what the steps since the last call were made: threads, device, machine and versions."""
        last = self.sittings[-1] if self.sittings else {"last_step": 0}
        if self.step == last["last_step"]:
            return
        if self.sittings and not changes(last, made_with):
            versions = {**last["versions"], **made_with["versions"]}  # packages are loaded as they are needed
            last.update(made_with, versions=versions, last_step=self.step)
        else:
            self.sittings.append({"first_step": last["last_step"] + 1, "last_step": self.step, **made_with})

    @property
    def best_row(self) -> dict:
        """The row of the best validation, the first of equal ones; there must be one."""
        return min(self.rows, key=lambda row: row["val_total"])

    @property
    def rows_since_best(self) -> int:
        """Validations in a row without a new best one."""
        return len(self.rows) - 1 - self.rows.index(self.best_row) if self.rows else 0


def changes(before: dict, now: dict) -> list[str]:
    """Name what of threads, device, processor and versions differs between two sittings, with both values.

    A package that is in one of them only does not count, nor does the number of processors that could be used.
    """
    there, here = (
        {"threads": one["threads"], "device": one["device"], **one["machine"], **one["versions"]}
        for one in (before, now)
    )
    shared = [name for name in here if name in there and name != "cpus"]
    return [f"{name} {there[name]}, now {here[name]}" for name in shared if there[name] != here[name]]
