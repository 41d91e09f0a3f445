"""Memory for a cache on its way: buffers that hand it to another server, and a tier in host memory."""

from collections.abc import Iterator

from memcalc.estimates.lines import Line, line
from memcalc.formulas.serving import offloaded_bytes, transfer_bytes
from memcalc.specs.serving import Serving


def tier_lines(run: Serving) -> Iterator[Line]:
    if run.transfer_buffer:
        yield line("activations", "transfer buffers", "always", transfer_bytes, buffer=run.transfer_buffer)
    if run.cache_offload:
        made = line("kv_cache", "blocks that leave the GPU", "always", offloaded_bytes, tier=run.cache_offload)
        yield made._replace(place="host")
