"""`make bench`, or `make bench ONLY=photographs`: runs benchmarks, checks their required ratios."""

import sys
from importlib import import_module

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Line, Skipped, machine

# Imported when they run: preprocess's workers import this file and, like those of the `facegan`
# command, must not wait for torch.
BENCHMARKS = (
    *("agreement", "scoring", "behaviour", "photographs", "training", "tracking", "registry"),
    *("drawing", "app", "browser", "scaling", "flow"),
    "gpu",
)


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; valid: {', '.join(BENCHMARKS)}")
        return 2
    lines: list[Line] = []
    for name in names or BENCHMARKS:
        try:
            for line in import_module(f"benchmarks.{name}").run():
                print(f"{line.name}: {line.figure}", flush=True)
                lines.append(line)
        except Skipped as reason:
            print(f"{name}: skipped: {reason}")
    print(machine())
    table = Table()
    for column in ("", "ours", "baseline", "measured", "required", "holds"):
        table.add_column(column)
    for line in lines:
        status = "yes" if line.holds else "NO"
        table.add_row(line.name, line.ours, line.baseline, line.figure, line.demanded, status)
    Console(width=160, highlight=False).print(table)
    return 0 if all(line.holds for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
