"""Every command of docs/PIPELINE.md and README is one that its script understands."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ("build_dataset", "train_classifier", "evaluate_classifier", "build_references", "publish_space")
PAGES = [ROOT / "docs" / "PIPELINE.md", ROOT / "README.md", *(ROOT / "scripts" / f"{name}.py" for name in SCRIPTS)]
COMMAND = re.compile(r"(?:^|[ ;])python (?:scripts/(\w+)\.py|-m (xaihub)) (.+)$", re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text("utf-8").replace("\\\n", " ")
        for script, module, arguments in COMMAND.findall(text):
            found.append((script or module, re.split(r"\s{2,}|\s+#|`", arguments)[0]))
    return found


def parser_of(name: str):
    if name == "xaihub":
        from xaihub.__main__ import _parser

        return _parser()
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.parser()


def test_there_are_commands_of_every_script():
    assert {name for name, _ in commands()} >= {*SCRIPTS, "xaihub"}


@pytest.mark.parametrize(("name", "arguments"), [pair for pair in commands() if pair[0] in (*SCRIPTS, "xaihub")])
def test_a_command_of_the_documentation_is_understood(name, arguments):
    parser_of(name).parse_args(shlex.split(arguments))  # else it exits, with its usage
