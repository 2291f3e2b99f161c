"""What models and offerings are known to take, and which of them have open weights."""

from __future__ import annotations

from datetime import date

import pytest

from isocost.catalog import Catalog, CatalogAt
from isocost.deployment import Ask, apis, open_weights, unfit

WORDS = ("text", "image", "tools", "structured", "audio")
CLOSED_MAKERS = (
    "gpt-",
    "claude-",
    "gemini-",
    "grok-3",
    "grok-4",
    "sonar",
    "command",
    "muse-",
    "voyage-",
    "o1",
    "o3",
)


@pytest.fixture(scope="module")
def at(catalog: Catalog) -> CatalogAt:
    return catalog.at(date(2026, 11, 23))


def ask(*needs: str) -> Ask:
    """A small request that asks for nothing but what it needs."""
    return Ask(1000, 100, needs, False, (), (), None)


def test_every_word_is_known(at: CatalogAt) -> None:
    """Text first, no word twice, none that nothing asks for."""
    seen = 0
    for prefix in ("api/", "model/"):
        for fact in at.each(prefix, "supports"):
            words = str(fact.value).split("|")
            assert words[0] == "text", fact.id
            assert len(words) == len(set(words)), fact.id
            assert set(words) <= set(WORDS), fact.id
            seen += 1
    assert seen > 300


@pytest.mark.parametrize(
    ("subject", "needs"),
    [
        ("api/openai/gpt-4.1", ("tools", "structured", "image")),
        ("api/anthropic/claude-opus-4-5", ("tools", "image")),
        ("api/google/gemini-2.5-flash", ("tools", "structured", "image", "audio")),
        ("api/deepseek/deepseek-v4-pro", ("tools",)),
        ("api/zai/GLM-5.3", ("tools",)),
    ],
)
def test_offering_takes(at: CatalogAt, subject: str, needs: tuple[str, ...]) -> None:
    (api, *_) = [api for api in apis(at) if api.subject == subject]
    assert unfit(at, api, ask(*needs)) == ""


def test_what_is_not_stated_is_refused(at: CatalogAt) -> None:
    """gpt-4.1 takes no sound, deepseek-v4-pro no images."""
    by_subject = {api.subject: api for api in apis(at) if api.tier == "standard"}
    assert "audio" in unfit(at, by_subject["api/openai/gpt-4.1"], ask("tools", "audio"))
    assert "image" in unfit(at, by_subject["api/deepseek/deepseek-v4-pro"], ask("image"))


def test_most_offerings_of_models_with_prices_say_whether_they_take_tools(at: CatalogAt) -> None:
    """A request with tools would otherwise have next to nowhere to go."""
    every = [api for api in apis(at) if api.tier == "standard"]
    spoken = [
        api for api in every if at.find(api.subject, "supports") or at.find(f"model/{api.model}", "supports")
    ]
    assert len(spoken) >= 0.8 * len(every), (len(spoken), len(every))


@pytest.mark.parametrize("model", ["deepseek-v4-pro", "glm-5.3", "kimi-k3", "minimax-m3", "gpt-oss-120b"])
def test_a_host_of_open_weights_counts_as_hosted(at: CatalogAt, model: str) -> None:
    options = {api.provider: api.option for api in apis(at) if api.model == model}
    assert "fireworks" in options
    assert set(options.values()) == {"hosted"}


def test_no_closed_model_is_marked_open(at: CatalogAt) -> None:
    for fact in at.each("model/", "open_weights"):
        model = fact.subject.removeprefix("model/")
        assert not model.startswith(CLOSED_MAKERS) or model.startswith("gpt-oss"), model
    assert not open_weights(at, "gpt-4.1")


def test_a_place_is_claimed_only_where_it_was_read(at: CatalogAt) -> None:
    """Of a provider with a known region every offering may answer there, of another none."""
    wanted = Ask(1000, 100, (), False, ("eu",), (), None)
    refused = {api.provider: unfit(at, api, wanted) for api in apis(at) if api.tier == "standard"}
    assert refused["ovhcloud"] == ""
    assert refused["openai"] == "openai is not known to answer from eu"


def test_no_offering_is_said_to_take_more_than_its_context(at: CatalogAt) -> None:
    """Gemini 2.5 Pro, whose context the price snapshot lacks, is bounded by the table's."""
    api = next(api for api in apis(at) if api.subject == "api/google/gemini-2.5-pro")
    assert unfit(at, api, ask("tools")) == ""
    assert unfit(at, api, ask("tools")._replace(max_input_tok=1_048_577)).startswith("context is 1,048,576")
