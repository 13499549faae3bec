"""The torch.hub door, derived from the registry: one function per model, under its name and under the name with "_" for ".".

torch.hub.load("histozoo/histozoo", "resnet18_multitask_path11", trust_repo=True)
"""

dependencies = ["torch", "timm", "safetensors", "huggingface_hub", "PIL", "numpy"]


def _histozoo():
    """The package beside this file; one that was imported before stays, which is said in a warning."""
    import warnings
    from pathlib import Path

    import histozoo

    here, found = Path(__file__).resolve().parent, Path(histozoo.__file__).resolve().parent.parent
    if found != here:
        warnings.warn(f"using histozoo as imported from {found}, not the one in {here}", stacklevel=3)
    return histozoo


class _AnyName(str):
    """Equal to every public name: torch.hub looks names up in dir() first, and only then asks `__getattr__` for one that is not there."""

    def __eq__(self, other):
        return str(self) == str(other) or not str(other).startswith("_")

    __hash__ = str.__hash__


def __dir__():
    return [*globals(), _AnyName("_door")]


def __getattr__(name):
    """Refuses a name that no model has with the nearest names, where torch.hub alone would say "cannot find callable"."""
    from histozoo import registry

    if name.startswith("_"):
        raise AttributeError(f"hubconf has no attribute {name!r}")
    registry.entry(name)


def _door(name):
    def door(pretrained=True, **kwargs):
        return _histozoo().load(name, pretrained=pretrained, **kwargs)

    door.__name__ = door.__qualname__ = name.replace(".", "_")
    door.__doc__ = (
        f"{name}: a pathology backbone as a timm model in eval mode; further arguments as in histozoo.load."
    )
    return door


def _doors():
    from histozoo import registry

    return {spelling: _door(name) for name in registry.names() for spelling in (name, name.replace(".", "_"))}


_histozoo()
globals().update(_doors())
