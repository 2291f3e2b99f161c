"""What it costs to keep an application running beside its answers: people, data, duties, energy, change.

:func:`isocost.keep.kept.keep` costs an :class:`isocost.keep.ask.Ask` by account of the chart; every amount
is a quantity times facts, so that its interval follows from theirs.
"""
