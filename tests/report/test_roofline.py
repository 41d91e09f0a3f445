"""speed.* and its tables."""

import json
from typing import Any

import pytest

from memcalc.estimates.serving import estimate as serving
from memcalc.estimates.serving.bytes_moved import stored_by_role
from memcalc.estimates.serving.roofline import Roofline, roofline
from memcalc.estimates.serving.speed import Speed as Answered
from memcalc.readers.catalogue import accelerator
from memcalc.readers.models import read_model_preset
from memcalc.report.contract import Speed
from memcalc.report.report import cell
from memcalc.report.roofline import decode_table, roofline_table
from memcalc.report.speed import speed_document
from memcalc.specs.serving import Serving


def speed(model: str, gpu: str, **case: Any) -> Roofline:
    architecture = read_model_preset(model).architecture
    assert architecture
    stored = stored_by_role(serving.estimate(architecture, Serving(tp=case.get("tp", 1))).lines)
    case = {"prompt": 512, "context": 256, "batch": 8, "weights_format": "bf16", "kv_format": "bf16"} | case
    return roofline(architecture, weights_bytes_per_rank=stored, accelerator=accelerator(gpu), **case)


FOUND = (speed("llama-3.1-8b", "h100"), speed("llama-3.1-70b", "a100", tp=4), speed("mamba-2.8b", "m2-ultra"))


@pytest.mark.parametrize("found", FOUND)
def test_the_document_keeps_the_contract(found: Roofline) -> None:
    document = json.loads(json.dumps(speed_document(Answered(found)), allow_nan=False))
    assert Speed.__annotations__.keys() <= document.keys()
    assert document["bound"] == found.bound == "memory"
    assert document["decode_seconds"] == found.decode.seconds.value
    assert document["decode_tokens_per_second"] == pytest.approx(8 / document["decode_seconds"])
    assert document["compute_bound_batch"] == found.compute_bound_batch
    assert (document["prefill_seconds"] is None) == (found.prefill is None)
    assert (document["mfu"], document["mbu"], document["link_efficiency"]) == (0.5, 0.6, 0.84)


def test_a_refusal_keeps_the_contract() -> None:
    document = speed_document(Answered(None, "the speed of cross-attention is not modelled"))
    assert document.pop("reasons") == ["the speed of cross-attention is not modelled"]
    assert set(document.values()) == {None}
    assert document.keys() <= Speed.__annotations__.keys()


@pytest.mark.parametrize("found", FOUND)
def test_tables_read_well(found: Roofline) -> None:
    passes, facts = roofline_table(found), decode_table(found)
    assert [row[0].split(",")[0] for row in passes.rows] == ["prefill", "decode step"][found.prefill is None :]
    for table in (passes, facts):
        for row in table.rows:
            assert len(row) == len(table.columns)
            for value, column in zip(row, table.columns, strict=True):
                assert cell(value, column.kind)
    assert passes.rows[-1][-1] == found.bound
    assert passes.rows[-1][1] == pytest.approx(1000 * found.decode.seconds.value, rel=1e-3)
    headings = [column.title for column in passes.columns]
    assert ("link, ms" in headings) == any(each.link for each in (found.decode, found.prefill) if each)
    assert facts.rows[-1][1] == found.compute_bound_batch
