"""The command as tests call it."""

from __future__ import annotations

import pytest

from mint_cli.report.table import main


@pytest.fixture
def shown(capsys):
    """Run the command, expect success, and return what it printed."""

    def run(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def failing(capsys):
    """Run the command, expect exit code 1 and no output, and return its one sentence."""

    def run(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 1
        said = capsys.readouterr()
        assert said.out == "" and said.err.startswith("mint-table: ")
        assert said.err.count("\n") == 1
        return said.err

    return run


@pytest.fixture
def warned(capsys):
    """Run the command, expect success and warnings, and return what it printed and warned of."""

    def run(*arguments: object) -> tuple[str, list[str]]:
        assert main([str(argument) for argument in arguments]) == 0
        said = capsys.readouterr()
        return said.out, said.err.splitlines()

    return run
