"""The `model` part of every document."""

from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.readers.models import Model
from memcalc.units import format_count


def model_document(name: str, architecture: Architecture | None, parameters: int) -> dict[str, Any]:
    """model.*: for a bare count only the count is known."""
    if architecture is None:
        return {"name": name, "parameters": parameters, "active_parameters": parameters, "embedding_parameters": None}
    return {
        "name": name,
        "model_type": architecture.model_type,
        "parameters": architecture.total,
        "active_parameters": architecture.active_parameters,
        "embedding_parameters": architecture.embedding_parameters,
        "routed_expert_parameters": architecture.routed_expert_parameters,
        "tied": architecture.tied,
        "hidden_size": architecture.hidden,
        "vocabulary": architecture.vocabulary,
        "context": architecture.context,
        "dtype": architecture.dtype,
        "quantization": architecture.quantization.method or None,
    }


def titled(model: Model) -> str:
    """A model and its size: "Llama 3.1 8B (8.03B parameters)"; of a bare count, the count."""
    size = f"{format_count(model.parameters)} parameters"
    return f"{model.name} ({size})" if model.architecture else size
