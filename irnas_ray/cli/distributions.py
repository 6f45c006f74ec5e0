"""The distribution that a domain's YAML stands for: data and never code, because search spaces come from others."""

import warnings
from typing import Any

#: What a domain's `_target_` may name.
TARGETS = tuple(f"optuna.distributions.{kind}Distribution" for kind in ("Float", "Int", "Categorical"))
HINT = "give a list of choices or {_target_: optuna.distributions.FloatDistribution, low: ..., high: ...}"
PLAIN = (bool, int, float, str, type(None))


def make_domains(written: dict[str, Any]) -> dict[str, Any]:
    """The domains of a study, from the plain values that its files and command line hold.

    A list is a choice, else ``_target_`` names a distribution of Optuna; either may stand under ``when``. Raises
    ValueError naming the domain and what is possible.
    """
    # before Optuna is loaded, which takes longer than to say what is wrong
    return {key: _make(key, *parts) for key, parts in read_domains(written).items()}


def read_domains(written: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any], dict[str, tuple[Any, ...]] | None]]:
    """Name of the distribution, its arguments and its conditions for every domain, without Optuna.

    Raises as ``make_domains``, but for arguments that Optuna itself refuses.
    """
    return {key: _read(key, value) for key, value in written.items()}


def _read(key: str, value: Any) -> tuple[str, dict[str, Any], dict[str, tuple[Any, ...]] | None]:
    """Name of the distribution, its arguments, and its conditions."""
    if isinstance(value, dict) and "when" in value:
        target, arguments, _ = _read(key, {name: item for name, item in value.items() if name != "when"})
        return target, arguments, _conditions(key, value["when"])
    if isinstance(value, dict) and value.keys() == {"choices"}:
        value = value["choices"]
    if isinstance(value, list) and value:
        return "", {"choices": value}, None
    if not isinstance(value, dict) or value.get("_target_") not in TARGETS:
        raise ValueError(f"domains.{key}: {value!r} is not a distribution; {HINT}")
    arguments = {name: item for name, item in value.items() if name != "_target_"}
    for name, item in arguments.items():
        if str(name).startswith("_"):
            raise ValueError(f"domains.{key}: {name} is not an argument of a distribution; {HINT}")
        items = item if name == "choices" and isinstance(item, list) else [item]
        if not all(isinstance(one, PLAIN) for one in items):
            raise ValueError(f"domains.{key}: {name}: {item!r} is not a number, text or null; {HINT}")
    return value["_target_"], arguments, None


def _make(key: str, target: str, arguments: dict[str, Any], when: dict[str, tuple[Any, ...]] | None) -> Any:
    import optuna.distributions

    from irnas_ray.hpo.domains import Conditional

    if not target:
        distribution: Any = optuna.distributions.CategoricalDistribution(**arguments)
        return distribution if when is None else Conditional(distribution, when)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            distribution = getattr(optuna.distributions, target.rpartition(".")[2])(**arguments)
    except (Warning, TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"domains.{key}: {error}; {HINT}") from None
    return distribution if when is None else Conditional(distribution, when)


def _conditions(key: str, when: Any) -> dict[str, tuple[Any, ...]]:
    """Keys and the values under which a domain is tuned; one value may stand without its list."""
    if not isinstance(when, dict) or not when or any(isinstance(values, dict) for values in when.values()):
        raise ValueError(f"domains.{key}: when: {when!r} is not a condition; give {{search.ssim_weight: [0.5, 1.0]}}")
    return {name: tuple(values) if isinstance(values, list) else (values,) for name, values in when.items()}
