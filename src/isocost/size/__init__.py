"""How many accelerators of what carry a load: every set-up by the physics, the cheapest by replay.

``config`` reads a Hugging Face config, ``setups`` enumerates layouts, ``memory`` splits a device's memory
as vLLM does, ``queue`` replays a load, ``watts`` is the energy, ``nearest`` the nearest measured point,
``calibration`` what measurements of one's own change, ``answer`` puts them together.
"""
