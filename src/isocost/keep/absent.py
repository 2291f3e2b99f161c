"""Why an account of the chart has no amount: it is nothing here, and why, or it is not known."""

from __future__ import annotations

from typing import NamedTuple

from isocost.keep.ask import OWN, Ask

UNMADE = "no model is made"
DOCUMENTS = "no documents are stated ([knowledge])"
ANSWERS = "comes with the answers: isocost plan, isocost price"


class Absent(NamedTuple):
    """Why an account is empty; what is not known is no nil."""

    why: str
    is_known: bool = True


def of_making(ask: Ask) -> dict[str, Absent]:
    """Accounts of development."""
    if ask.option != "slm":
        trained = ("data", "development-staff", "experiments", "fine-tuning", "distillation", "slm-training",
                   "training-energy", "training-cluster", "federated-training")  # fmt: skip
        return {name: Absent(UNMADE) for name in trained} | _unmade()
    way = f"the model is made by {ask.made.way} (made.way)"
    return _unmade() | {
        "distillation": Absent(way),
        "fine-tuning": Absent(way),
        "slm-training": Absent("in fine-tuning and distillation"),
        "training-energy": Absent("in the rent of the accelerators that train"),
        "training-cluster": Absent("training is rented by the hour"),
        "federated-training": Absent("all examples lie in one place"),
    }


def _unmade() -> dict[str, Absent]:
    scratch = Absent("no model is trained from scratch: isocost develop")
    there = Absent("nothing new is launched")
    return {
        "compute-infrastructure": scratch,
        "training-from-scratch": scratch,
        "safety-evaluation": there,
        "acquisition": there,
    }


def of_keeping(ask: Ask, *, is_stated: bool = True) -> dict[str, Absent]:
    """Accounts of deployment and upkeep, the answers' own apart.

    ``is_stated``: the ask is a person's own. What nobody said a word of is not known.
    """
    own = ask.option in OWN
    unsaid = "not stated: documents that are searched, in keep.toml"
    documents = Absent(DOCUMENTS) if is_stated else Absent(unsaid, False)
    duties = Absent("no duty of the catalog applies here")
    if not is_stated and not ask.law.places:
        duties = Absent("not stated: where the users are, in keep.toml", False)
    retired = "own weights are neither retired nor repriced"
    sold = "no model is named, and other hosts sell open weights too"
    found = {
        "pipelines": documents,
        "vector-database": documents,
        "egress": Absent("sent by the provider, in the price of its answers"),
        "edge": Absent("nothing runs on devices ([device])"),
        "porting": Absent("nothing leaves CUDA (own.port_to)" if own else "the provider's own"),
        "retraining": Absent("no own model is kept: it is bought as it is"),
        "autonomous-updates": Absent(
            "retraining is by hand (upkeep.automated)" if own else "no own model is kept"
        ),
        "energy": Absent("in the rent (own.on_premises)" if own else "in the price of the answers"),
        "carbon": Absent("no price is set (carbon_usd_per_tonne)"),
        "compliance": duties,
        "api-change-risk": Absent(retired if own else sold),
        "operations-staff": Absent("the people who are there suffice (held_fte)"),
    }
    if ask.option == "selfhost":
        as_is = Absent("open weights are run as they are")
        found |= {"autonomous-updates": as_is, "retraining": as_is}
    return found


def of_answers(ask: Ask) -> dict[str, Absent]:
    """Accounts of the answers themselves, as a plan books them."""
    own = ask.option in OWN
    bought = Absent("in the price of the provider's tokens")
    unused = "in idle compute: what limits leave unused"
    return {
        "api-tokens": Absent("own replicas answer everything"),
        "inference-compute": Absent("replicas that are held cost nothing more") if own else bought,
        "idle-compute": Absent("replicas are always busy") if own else bought,
        "commitments": Absent("a plan of one month signs none: --horizon does") if own else bought,
        "latency-headroom": Absent(unused) if own else Absent("the provider's"),
        "caching": Absent("reads and writes are in API tokens, an exact cache in the gateway"),
        "api-infrastructure": Absent("one place answers: no gateway stands before it"),
        "redundancy": Absent("nothing is balanced"),
    }
