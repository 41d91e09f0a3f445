"""How many estimates a second, in process, on one core: `python benchmarks/estimates.py`.

Settings change from one estimate to the next; the architecture stays. Depth and GPU count must not matter.
"""

import itertools
import time

from memcalc.estimates.serving import estimate as serving
from memcalc.estimates.step_time.step import step_time
from memcalc.estimates.training import estimate as training
from memcalc.readers.catalogue import accelerator
from memcalc.readers.models import read_model
from memcalc.readers.timing import time_law
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.serving import Serving
from memcalc.specs.training import Training

SECONDS = 1.0


def rate(function, settings) -> float:
    """Calls a second of function(setting), cycling through the settings."""
    for setting in settings:
        function(setting)  # caches of the architecture warm up, as in any sweep
    start = time.process_time()
    for done, setting in enumerate(itertools.cycle(settings), start=1):
        function(setting)
        if done % 64 == 0 and time.process_time() - start > SECONDS:
            return done / (time.process_time() - start)
    raise AssertionError


def main() -> None:
    train_settings = [
        {"micro_batch": b, "seq_len": s, "recompute": r, "zero": z, "gpus": g}
        for b, s, r, z, g in itertools.product((1, 2, 4), (2048, 4096), ("none", "full"), (0, 1, 2, 3), (8, 64, 100_000))
    ]
    serve_settings = [
        {"batch": b, "context": c, "tp": t, "weights": w}
        for b, c, t, w in itertools.product((1, 8, 64), (4096, 32768), (1, 2, 8), ("bf16", "int4-g128"))
    ]
    law = time_law(accelerator("h100"))
    for name in ("llama-3.2-1b", "llama-3.1-405b"):
        architecture = read_model(name).architecture
        assert architecture is not None

        def train(setting, architecture=architecture):
            values = dict(setting)
            parallelism = Parallelism(gpus=values.pop("gpus"), zero=values.pop("zero"))
            run = Training(parallelism=parallelism, **values)
            return run, training.estimate(architecture, run)

        def timed(setting, architecture=architecture):
            run, found = train(setting, architecture)
            return found, step_time(architecture, run, law)

        def serve(setting, architecture=architecture):
            return serving.estimate(architecture, Serving(**setting))

        depth = sum(stack.depth for part in architecture.parts for stack in part.stacks)
        print(f"{name} ({depth} layers): {rate(train, train_settings):,.0f} training estimates a second, specs included")
        print(f"{name} ({depth} layers): {rate(timed, train_settings):,.0f} with the step's time")
        for engine in (None, "vllm", "llama.cpp"):
            settings = [
                setting | {"engine": engine} for setting in serve_settings if engine != "llama.cpp" or setting["tp"] == 1
            ]
            rated = rate(serve, settings)
            print(f"{name} ({depth} layers): {rated:,.0f} serving estimates a second, engine {engine}, specs included")


if __name__ == "__main__":
    main()
