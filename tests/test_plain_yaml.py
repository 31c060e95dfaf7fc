"""YAML of somebody else's ends in a sentence with file and line, quickly, or is plain."""

import pytest
from omegaconf import OmegaConf

from mint_cli.commandline import CONF
from mint_cli.errors import DataError
from mint_cli.plain_yaml import check

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30))

BAD = {
    "syntax": (b"a: 1\nb: [1, 2\nc: 3\n", "line 3: "),
    "a tab": (b"a:\n\tb: 1\n", "line 2: .*tab|line 2: found character"),
    "a duplicate key": (b"a: 1\nb: 2\na: 3\n", "line 3: key 'a' is there twice"),
    "a duplicate key in a flow": (b"a: {b: 1, b: 2}\n", "line 1: key 'b' is there twice"),
    "a null key": (b"a: 1\nnull: 2\n", "line 2: a key must be text or a whole number, not 'null'"),
    "a key that is a list": (b"? [a, b]\n: 2\n", "line 1: a key must be text or a whole number"),
    "a key that is a number with a point": (
        b"1.5: 2\n",
        "line 1: a key must be text or a whole number",
    ),
    "a key that is an alias": (
        b"a: &x b\n*x : 2\n",
        "line 2: a key must be text or a whole number",
    ),
    "another encoding": ("a: é\n".encode("latin-1"), "line 1: not UTF-8 text"),
    "UTF-16": ("a: 1\n".encode("utf-16"), "line 1: not UTF-8 text"),
    "a control character": (b"a: 1\nb: \x01\n", "line 2: a character that YAML does not allow"),
    "an alias bomb": (BOMB.encode(), "more than 5,000 values, aliases written out"),
    "an alias of itself": (b"a: &x [*x]\n", "line 1: alias \\*x stands for nothing"),
    "an unknown alias": (b"a: *x\n", "line 1: alias \\*x stands for nothing"),
    "deep nesting": (b"a: " + b"[" * 10_000, "line 1: more than 20 mappings and lists"),
    "a list": (b"- a\n- b\n", "line 1: a configuration is one mapping"),
    "text": (b"hello\n", "line 1: a configuration is one mapping"),
    "two documents": (b"a: 1\n---\nb: 2\n", "line 3: a configuration is one mapping"),
    "an object": (b"a: !!python/object/apply:os.system [ls]\n", "line 1: a value of type python"),
    "a binary": (b"a: !!binary aGk=\n", "line 1: a value of type binary"),
    "a list that says it is text": (b"a: !!str [1]\n", "line 1: a value of type str"),
    "a number that is none": (b"a: 0b_\n", "line 1: '0b_' is no int"),
    "text that says it is a number": (b"a: !!int text\n", "line 1: 'text' is no int"),
    "a number of 5,000 digits": (b"a: " + b"1" * 5000, "line 1: a number of more than 100 digits"),
    "many values": (b"a: [" + b"1," * 9_000 + b"]", "more than 5,000 values"),
    "much text": (b"a: " + b"x" * 200_000, "is larger than 100,000 bytes"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_plain_mapping_is_refused_with_its_name_and_line(tmp_path, case):
    content, sentence = BAD[case]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence) as refused:
        check(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


GOOD = {
    "nothing": "",
    "a comment": "# nothing\n",
    "anchors and merges": "a: &x {b: 1}\nc: {<<: *x, d: 2}\ne: *x\n",
    "numbers for layers": "caps: {1: 0.5, 2: 0.25}\n",
    "every kind": "a: 1\nb: 1.5\nc: true\nd: null\ne: ~\nf: 'é'\nh: [1]\ni: 2020-01-01\nj: .inf\n",
    "a mark of byte order": "\ufeffa: 1\n",
    "long text": f"a: {'x' * 5000}\n",
}


@pytest.mark.parametrize("case", GOOD)
def test_a_plain_file_passes_and_omegaconf_reads_it(tmp_path, case):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD[case], encoding="utf-8")
    check(path)
    OmegaConf.load(path)


@pytest.mark.parametrize(
    "path", sorted(CONF.rglob("*.yaml")), ids=lambda p: str(p.relative_to(CONF))
)
def test_every_configuration_of_the_package_is_plain(path):
    check(path)
