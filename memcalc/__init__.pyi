"""Written from memcalc/__init__.py by `python tests/test_public.py`."""

from memcalc.blocks.architecture import Architecture as Architecture
from memcalc.caches import clear_caches as clear_caches
from memcalc.dtypes import NumberFormat as NumberFormat
from memcalc.dtypes import number_format as number_format
from memcalc.errors import InputError as InputError
from memcalc.errors import MemcalcError as MemcalcError
from memcalc.errors import Unsupported as Unsupported
from memcalc.estimates.checking import Check as Check
from memcalc.estimates.checking import Outcome as Outcome
from memcalc.estimates.comparison import ComparedCase as ComparedCase
from memcalc.estimates.comparison import SideBySide as SideBySide
from memcalc.estimates.compute.budget import estimate as estimate_budget
from memcalc.estimates.compute.budget_estimate import BudgetEstimate as BudgetEstimate
from memcalc.estimates.compute.scaling import ScalingAnswer as ScalingAnswer
from memcalc.estimates.compute.scaling import estimate as estimate_scaling
from memcalc.estimates.explanation import Explanation as Explanation
from memcalc.estimates.serving.capacity import Capacity as Capacity
from memcalc.estimates.serving.capacity import ServingEstimate as ServingEstimate
from memcalc.estimates.serving.estimate import estimate as estimate_serving
from memcalc.estimates.serving.speed import Speed as Speed
from memcalc.estimates.training.estimate import TrainingEstimate as TrainingEstimate
from memcalc.estimates.training.estimate import estimate as estimate_training
from memcalc.estimates.training.estimate import estimate_parameters as estimate_parameters
from memcalc.formulas.engines import Engine as Engine
from memcalc.formulas.optimizer_states import Optimizer as Optimizer
from memcalc.formulas.optimizers import optimizer as optimizer
from memcalc.formulas.scaling_laws import Law as Law
from memcalc.formulas.scaling_laws import law as law
from memcalc.formulas.serving_engines import ServingEngine as ServingEngine
from memcalc.readers.catalogue import accelerator as accelerator
from memcalc.readers.hf import read_config as read_config
from memcalc.readers.listings import engines as engines
from memcalc.readers.listings import formats as formats
from memcalc.readers.listings import gpus as gpus
from memcalc.readers.listings import laws as laws
from memcalc.readers.listings import models as models
from memcalc.readers.listings import optimizers as optimizers
from memcalc.readers.listings import runs as runs
from memcalc.readers.listings import serving_engines as serving_engines
from memcalc.readers.models import Model as Model
from memcalc.readers.models import read_contents as inspect
from memcalc.readers.models import read_model as read_model
from memcalc.readers.runs import training_run as training_run
from memcalc.sizing.budget import SizedBudget as SizedBudget
from memcalc.sizing.budget import size_budget as size_budget
from memcalc.sizing.checking import check as check
from memcalc.sizing.comparing import SizedComparison as SizedComparison
from memcalc.sizing.comparing import compare as compare
from memcalc.sizing.comparing import compare_files as compare_files
from memcalc.sizing.explaining.explain import explain as explain
from memcalc.sizing.planning import SizedPlan as SizedPlan
from memcalc.sizing.planning import plan_training as plan_training
from memcalc.sizing.planning_serving import SizedServicePlan as SizedServicePlan
from memcalc.sizing.planning_serving import plan_serving as plan_serving
from memcalc.sizing.scaling import SizedScaling as SizedScaling
from memcalc.sizing.scaling import chinchilla as chinchilla
from memcalc.sizing.serving import SizedServing as SizedServing
from memcalc.sizing.serving import size_serving as size_serving
from memcalc.sizing.training import SizedTraining as SizedTraining
from memcalc.sizing.training import size_training as size_training
from memcalc.sizing.validation import Validated as Validated
from memcalc.sizing.validation import validate as validate
from memcalc.sizing.verifying import SizedLog as SizedLog
from memcalc.sizing.verifying import verify as verify
from memcalc.specs.budget import Budget as Budget
from memcalc.specs.hardware import Accelerator as Accelerator
from memcalc.specs.measured import Measured as Measured
from memcalc.specs.parallelism import Parallelism as Parallelism
from memcalc.specs.runs import TrainingRun as TrainingRun
from memcalc.specs.scaling import ScalingQuestion as ScalingQuestion
from memcalc.specs.served import Served as Served
from memcalc.specs.serving import Serving as Serving
from memcalc.specs.sizing import Compute as Compute
from memcalc.specs.sizing import Limits as Limits
from memcalc.specs.sizing import Scenario as Scenario
from memcalc.specs.spec import SpecError as SpecError
from memcalc.specs.training import Training as Training

__version__: str
__all__ = [
    "Accelerator",
    "Architecture",
    "Budget",
    "BudgetEstimate",
    "Capacity",
    "Check",
    "ComparedCase",
    "Compute",
    "Engine",
    "Explanation",
    "InputError",
    "Law",
    "Limits",
    "Measured",
    "MemcalcError",
    "Model",
    "NumberFormat",
    "Optimizer",
    "Outcome",
    "Parallelism",
    "ScalingAnswer",
    "ScalingQuestion",
    "Scenario",
    "Served",
    "Serving",
    "ServingEngine",
    "ServingEstimate",
    "SideBySide",
    "SizedBudget",
    "SizedComparison",
    "SizedLog",
    "SizedPlan",
    "SizedScaling",
    "SizedServicePlan",
    "SizedServing",
    "SizedTraining",
    "SpecError",
    "Speed",
    "Training",
    "TrainingEstimate",
    "TrainingRun",
    "Unsupported",
    "Validated",
    "accelerator",
    "check",
    "chinchilla",
    "clear_caches",
    "compare",
    "compare_files",
    "engines",
    "estimate_budget",
    "estimate_parameters",
    "estimate_scaling",
    "estimate_serving",
    "estimate_training",
    "explain",
    "formats",
    "gpus",
    "inspect",
    "law",
    "laws",
    "models",
    "number_format",
    "optimizer",
    "optimizers",
    "plan_serving",
    "plan_training",
    "read_config",
    "read_model",
    "runs",
    "serving_engines",
    "size_budget",
    "size_serving",
    "size_training",
    "training_run",
    "validate",
    "verify",
]
