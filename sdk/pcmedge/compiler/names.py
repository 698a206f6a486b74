"""Names of analog layers: the module's path if the source knew it, else the weight's or the node's name."""

from __future__ import annotations

import ast

import onnx


def module_paths(model: onnx.ModelProto) -> dict[str, str]:
    """Module path per output name ("layer1.0.conv1"), from what torch's exporter records on each node."""
    found: dict[str, str] = {}
    for node in model.graph.node:
        for entry in node.metadata_props:
            scopes = _scopes(entry.value) if entry.key == "pkg.torch.onnx.name_scopes" else []
            if len(scopes) > 1 and scopes[-2]:
                found.update((name, scopes[-2]) for name in node.output)
    return found


def _scopes(text: str) -> list[str]:
    """A Python list of strings, or nothing: the file may come from anywhere."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else []


class LayerNames:
    """Unique layer names, best source first: the module's path, the weight's name, the node's name."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def choose(self, node: onnx.NodeProto, origins: dict[str, str]) -> str:
        weight = node.input[1]
        stem = next((origins[name] for name in node.output if name in origins), "")
        if not stem and weight.endswith(".weight"):
            stem = weight.removesuffix(".weight")
        stem = "".join(char if char.isalnum() or char in "._-/" else "_" for char in stem or node.name).strip("/")
        stem = stem or node.op_type.lower()
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}_{number}"
        self._taken.add(name)
        return name
