"""What the user types, as Hydra takes it, and what Hydra says, in one sentence."""

from __future__ import annotations

import argparse
import atexit
import difflib
import os
import sys
from pathlib import Path
from typing import Any, ClassVar

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.utils import get_args_parser
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.experimental.callback import Callback
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import MarkedYAMLError

from mint_cli import plain_yaml
from mint_cli.errors import DataError, SettingError, sentence, shortened
from mint_cli.signatures import shown

HERE = Path(__file__).parent
CONF = (
    HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"
)  # in a wheel; in a checkout
CHOICES = ("dataset", "model", "pruner", "schedule")  # groups of which every run has one option
BY_LAYER = (
    "caps",
    "groups",
    "child_groups",
    "parent_groups",
)  # settings that may be a mapping from layers
PROVIDER = "command-line"  # of configurations, as Hydra calls it
OWN = (  # of Hydra's settings, those that a configuration of somebody else's may make
    *("mode", "run", "sweep", "sweeper.params", "sweeper.max_batch_size"),
    *("job.name", "job.chdir", "verbose", "output_subdir"),
)


def arguments(argv: list[str]) -> tuple[list[str], list[Path]]:
    """The arguments as Hydra takes them, options first, and the folders of ``--config-dir``.

    What Hydra's grammar does not take as a value (``=`` or a bracket in a file's name) is meant
    literally.  SettingError for an argument that sets nothing.
    """
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--config-dir", "-cd", action="append", default=[], type=Path)
    mine, rest = own.parse_known_args(argv)
    overrides = get_args_parser().parse_intermixed_args(rest).overrides
    options = list(rest)
    for override in overrides:
        options.remove(override)
    for folder in mine.config_dir:
        check_folder(folder)
    folders = [Path(os.path.abspath(folder)) for folder in mine.config_dir]
    if not {"--shell-completion", "-sc"} & set(options):
        overrides = [readable(override, folders) for override in overrides]
    return options + overrides, folders


def composed(argv: list[str]) -> DictConfig:
    """The configuration that ``mint-run`` makes of these arguments, in this process."""
    overrides, folders = arguments(argv)
    look_first_in(folders)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=overrides)


def job(argv: list[str]) -> tuple[DictConfig, Path]:
    """The configuration of ``mint-run`` with these arguments, and the folder that it would write.

    From then on Hydra answers in this process as in that run.
    """
    overrides, folders = arguments(argv)
    look_first_in(folders)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)  # which the folder's name is made from
    folder = Path(os.path.abspath(cfg.hydra.run.dir))
    OmegaConf.set_readonly(cfg.hydra, False)
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = str(folder)
        HydraConfig.instance().set_config(cfg)
        del cfg["hydra"]
    return cfg, folder


def check_folder(folder: Path) -> None:
    """SettingError for a folder that is none, or whose main configuration would replace ours."""
    if not folder.is_dir():
        raise SettingError("--config-dir", "must name a folder", folder)
    if (folder / "config.yaml").exists():
        hint = "rename it and choose it by --config-name; its defaults may begin with config"
        raise SettingError(
            str(folder / "config.yaml"), "has the name of the main configuration", hint=hint
        )


def readable(override: str, folders: list[Path]) -> str:
    """An override that Hydra's grammar takes: as it is, or with its value in quotation marks."""
    name, equals, value = override.partition("=")
    literal = f"{name}={QuotedString(value, Quote.single).with_quotes()}"
    for text in (override, literal) if equals else (override,):
        parsed = parse(text)
        if parsed is not None and parsed.key_or_group:
            check_choice(parsed, folders)
            return text
    raise SettingError(shortened(override), "sets nothing", hint="a setting is written name=value")


def parse(override: str) -> Override | None:
    """An override as Hydra understands it; None where it does not."""
    try:
        return OverridesParser.create().parse_override(override)
    except (
        HydraException,
        ValueError,
        RecursionError,
    ):  # grammar; numbers of 5,000 digits; 1,000 brackets
        return None


def check_choice(override: Override, folders: list[Path]) -> None:
    """SettingError for a group of configurations of which not one option is chosen by its name."""
    group = override.key_or_group
    places = [place / group for place in (*folders, CONF) if (place / group).is_dir()]
    if not places:
        return
    if override.is_delete():
        values = [None] if group in CHOICES else []
    else:
        values = (
            list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
        )
    for value in values:
        if not isinstance(value, str):
            options = sorted({file.stem for place in places for file in place.glob("*.yaml")})
            setting = f"{group}@{override.package}" if override.package else group
            raise SettingError(setting, f"must be one of {', '.join(options)}", shown(value))


class LookedOver(FileConfigSource):
    """A folder of somebody else's configurations, looked over before anything is built of them."""

    @staticmethod
    def scheme() -> str:
        return "looked-over"

    def load_config(self, config_path: str) -> ConfigResult:
        file = Path(self.path) / self._normalize_file_name(config_path)
        plain_yaml.check(file)
        try:
            result = super().load_config(config_path)
        except MarkedYAMLError as error:
            raise DataError(
                f"{file}, line {error.problem_mark.line + 1}: {error.problem}"
            ) from error
        except OmegaConfBaseException as error:
            raise DataError(f"{file}: {one_line(error)}") from error
        content = OmegaConf.to_container(result.config, resolve=False)
        check_hydra(file, config_path, result.header.get("package"), content)
        return result


class Folders(SearchPathPlugin):
    """Puts the folders of ``--config-dir`` before ours: a file of the same name wins."""

    folders: ClassVar[list[Path]] = []

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in self.folders:
            search_path.prepend(PROVIDER, f"{LookedOver.scheme()}://{folder}", anchor="main")


def look_first_in(folders: list[Path]) -> None:
    """Let Hydra find configurations in these folders before ours, in the last of them first."""
    Folders.folders = folders
    for plugin in (LookedOver, Folders):
        Plugins.instance().register(plugin)


def import_from(runtime: DictConfig) -> None:
    """Let plug-ins be found beside the folders of ``--config-dir`` and in the current folder.

    What is installed is found before them.
    """
    own = [
        Path(source.path).parent for source in runtime.config_sources if source.provider == PROVIDER
    ]
    for folder in (*own, Path(runtime.cwd)):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def check_hydra(file: Path, config_path: str, package: str | None, content: dict[str, Any]) -> None:
    """DataError for a configuration that makes Hydra run something: a callback, a log handler."""
    defaults, settings = content.get("defaults", []), content.get("hydra", {})
    if not isinstance(defaults, list) or not all(map(is_default, defaults)):
        raise DataError(f"{file}: defaults must be a list of names and of group: name")
    packages = [
        name.partition("@")[2] for entry in defaults if isinstance(entry, dict) for name in entry
    ]
    inside = config_path.startswith("hydra/") or any(
        "hydra" in name for name in (*packages, package or "")
    )
    if inside or not isinstance(settings, dict):
        raise DataError(f"{file} sets Hydra up, which only the command line may")
    for name, value in settings.items():
        parts = [f"{name}.{part}" for part in value] if isinstance(value, dict) else []
        foreign = [] if name in OWN else [part for part in parts or [str(name)] if part not in OWN]
        if foreign:
            raise DataError(f"{file} sets hydra.{foreign[0]}, which only the command line may")


def is_default(entry: Any) -> bool:
    """Whether an entry of a defaults list is one: a name, or a group and its options."""
    if isinstance(entry, dict) and len(entry) == 1:
        ((group, options),) = entry.items()
        options = options if isinstance(options, list) else [options]
        return isinstance(group, str) and all(
            one is None or isinstance(one, str) for one in options
        )
    return isinstance(entry, str)


class Outputs(Callback):
    """Knows where a run or sweep writes; at a sweep's end, however it comes, prints its table.

    The table has rows of what is finished, and below them the jobs that are not, by name.
    """

    folder: ClassVar[str | None] = None

    def on_run_start(self, config: DictConfig, **settings: Any) -> None:
        HydraConfig.instance().set_config(config)  # which the folder's name is made from
        Outputs.folder = config.hydra.run.dir

    def on_multirun_start(self, config: DictConfig, **settings: Any) -> None:
        Outputs.folder = config.hydra.sweep.dir
        atexit.register(tabulate, config.hydra.sweep.dir)


def tabulate(folder: str) -> None:
    """Print the table of a sweep's folder, if any of its jobs has begun."""
    from mint_cli.report import table

    if any(Path(folder).rglob("status.json")):
        table.main([folder])


def message(error: BaseException, overrides: list[str]) -> str | None:
    """One sentence for an error that the user or the machine has to mend; None for one of ours."""
    own = sentence(error)
    if own:
        return own
    cause = error.__cause__
    missing = error if isinstance(error, ConfigKeyError | ConfigAttributeError) else cause
    if (
        isinstance(missing, ConfigKeyError | ConfigAttributeError)
        and missing.parent_node is not None
    ):
        return unknown_setting(missing, overrides)
    if isinstance(error, MissingConfigException) and error.options:
        return f"there is no {error.missing_cfg_file}; options: {', '.join(error.options)}"
    if isinstance(error, HydraException):
        swept = next((o for o in map(parse, overrides) if o and o.is_sweep_override()), None)
        if cause is None and swept and swept.input_line and swept.input_line in str(error):
            hint = f"a list is written {swept.get_key_element()}=[…]"
            return (
                f"{swept.input_line} is a sweep, which needs the option -m (mint-run -m …); {hint}"
            )
        return message(cause, overrides) if cause and not str(error).strip() else one_line(error)
    if isinstance(error, OmegaConfBaseException):
        return one_line(error)
    if isinstance(error, RecursionError):
        return "configurations name one another in their defaults without end"
    return None


def unknown_setting(error: OmegaConfBaseException, overrides: list[str]) -> str:
    """Name the setting that does not exist and the nearest one that does."""
    known = [str(k) for k in error.parent_node]
    close = difflib.get_close_matches(str(error.key), known, n=1)
    where = str(error.full_key).removesuffix(str(error.key))
    parent = where.rstrip(".")
    if parent.rpartition(".")[2] in BY_LAYER:
        layers = str(error.key) if parent.endswith("caps") else f"default: …, {error.key}"
        hint = f"a layer is added by '++{parent}={{{layers}: …}}'"
        return f"there is no setting {error.full_key} yet; {hint}"
    hint = f"did you mean {where}{close[0]}?" if close else f"there are {', '.join(known)}"
    if not close and any(o and o.is_sweep_override() for o in map(parse, overrides)):
        # Hydra first composes what all jobs share, the default pruner with it
        hint += f"; a setting that only the swept choices have is written ++{error.full_key}=…"
    return f"there is no setting {error.full_key}; {hint}"


def one_line(error: BaseException) -> str:
    """The setting that an error is about, and the first line of what it says that is not empty."""
    lines = [
        line.strip()
        for line in str(getattr(error, "msg", None) or error).splitlines()
        if line.strip()
    ]
    where = getattr(error, "full_key", None)
    return (f"{where}: " if where else "") + (lines[0] if lines else type(error).__name__)
