"""One way in: model + settings + accelerator → estimate.

The command line, sizing files and Python all come through here. A setting is a keyword (`zero=3`), an entry of a nested table
(`parallelism={"zero": 3}`) or a field of a spec (`Training(...)`); whatever was not said takes the default of the model, and
what makes no sense without another setting is refused. What was said is one flat mapping (`settings`), a model becomes a
`Model` (`subjects`), and `training`, `serving` and `budget` make the estimate.
"""
