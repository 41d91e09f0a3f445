"""Finding presets: names, aliases, users' folders, and refusing what is not a preset."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memcalc.errors import InputError
from memcalc.readers import catalogue
from memcalc.readers.catalogue import (
    accelerator,
    accelerators,
    preset_folders,
    preset_names,
    read_preset,
    shipped_folder,
)

MINE = """\
name = "Mine"
vendor = "Me"
architecture = "x1"
aliases = ["my-gpu"]
vendor_bytes = 10_000_000_000
driver_mib = 9000
bandwidth = 1e12
tdp = 100
sources = ["measured here"]
[peak]
bf16 = 1e14
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gpus").mkdir()
    return tmp_path


def write(folder: Path, content: str | bytes, name: str = "mine.toml") -> Path:
    path = folder / "gpus" / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(name: str, *folders: Path) -> str:
    """The one line that a bad name or file is refused with."""
    with pytest.raises(InputError) as caught:
        accelerator(name, [str(folder) for folder in folders])
    line = str(caught.value)
    assert line.isprintable(), line
    assert len(line) < 600
    return line


class TestNames:
    def test_usable_is_the_drivers_memory_else_the_vendors(self, folder: Path) -> None:
        assert accelerator("h100").usable == 81559 * 2**20
        write(folder, MINE.replace("driver_mib = 9000\n", ""))
        assert accelerator("mine", [str(folder)]).usable == 10_000_000_000

    def test_a_peak_that_nobody_publishes_is_refused(self) -> None:
        assert accelerator("h100").dense_peak("bf16") == 989.4e12
        with pytest.raises(InputError, match=r"A100 SXM4 80GB has no known dense peak in fp8 \(published are fp64"):
            accelerator("a100").dense_peak("fp8")
        with pytest.raises(InputError, match="its vendor publishes none"):
            accelerator("m3-max").model_copy(update={"peak": {}}).dense_peak("bf16")

    @pytest.mark.parametrize(
        ("name", "suggestion"),
        [
            ("h10O", "h100"),
            ("a1000", "a100"),
            ("rtx-409O", "rtx-4090"),
            ("mi30x", "mi300x"),
        ],
    )
    def test_a_misspelt_name_is_corrected(self, name: str, suggestion: str) -> None:
        line = refusal(name)
        assert line.startswith(f"unknown GPU {name!r}; did you mean ")
        assert f" {suggestion}" in line

    def test_a_name_like_no_other_is_only_unknown(self) -> None:
        assert refusal("qqqqqqq") == "unknown GPU 'qqqqqqq'"

    @pytest.mark.parametrize(
        "name",
        ["", " ", ".", "..", "../gpus/h100-sxm-80", "../../etc/passwd", "/etc/passwd", "gpus/h100", "..\\h100",
         "c:h100", "h100\0", "h100\nx", "h100;ls", "h..100", ".h100", "h100.", "-h100", "$HOME", "h" * 500, "ｈ100",
         "\x1b[31m"],
    )  # fmt: skip
    def test_a_hostile_name_never_reaches_the_disk(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(catalogue, "preset_folders", None)  # would fail if called
        assert "cannot be a GPU's name" in refusal(name)

    def test_an_exact_name_opens_one_file_and_lists_no_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(catalogue, "_files", None)  # would fail if called
        assert accelerator("h100-sxm-80").id == "h100-sxm-80"

    def test_names_are_sorted_and_without_aliases(self) -> None:
        names = preset_names("gpus")
        assert names == sorted(names)
        assert "h100-sxm-80" in names
        assert "h100" not in names

    def test_a_preset_can_be_had_as_written(self) -> None:
        preset = read_preset("gpus", "h100")
        assert preset["driver_mib"] == 81559
        assert preset["peak"]["bf16"] == 989.4e12

    def test_a_known_gpu_costs_no_heavy_import(self) -> None:
        code = "accelerator('h100'); print([m for m in ('rich', 'difflib', 'yaml') if m in sys.modules])"
        assert run(code, PACKAGE.parent) == "[]"

    def test_presets_are_found_inside_an_installed_package(self, tmp_path: Path) -> None:
        """As the wheel lays them out: memcalc/presets."""
        shutil.copytree(PACKAGE, tmp_path / "memcalc", ignore=shutil.ignore_patterns("presets", "__pycache__"))
        shutil.copytree(shipped_folder("gpus"), tmp_path / "memcalc" / "presets" / "gpus")
        assert run("print(find_preset('gpus', 'h100'))", tmp_path).startswith(str(tmp_path))


PACKAGE = Path(catalogue.__file__).parent.parent


def run(code: str, where: Path) -> str:
    """What the code prints in a fresh interpreter that imports memcalc from a folder."""
    start = f"import sys; sys.path.insert(0, {str(where)!r}); from memcalc.readers.catalogue import *; "
    command = [sys.executable, "-I", "-c", start + code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class TestFolders:
    def test_a_users_preset_is_found_by_name_and_alias_and_listed(self, folder: Path) -> None:
        write(folder, MINE)
        assert accelerator("mine", [str(folder)]).tdp == 100
        assert accelerator("my-gpu", [str(folder)]).id == "mine"
        assert "mine" in {gpu.id for gpu in accelerators([str(folder)])}
        assert "mine" in preset_names("gpus", [str(folder)])
        assert "mine" not in preset_names("gpus")

    def test_a_users_preset_wins_over_the_shipped_one(self, folder: Path) -> None:
        write(folder, MINE, "h100-sxm-80.toml")
        assert accelerator("h100-sxm-80", [str(folder)]).name == "Mine"
        assert [gpu.name for gpu in accelerators([str(folder)]) if gpu.id == "h100-sxm-80"] == ["Mine"]
        assert accelerator("h100-sxm-80").name == "NVIDIA H100 SXM5 80GB"

    @pytest.mark.parametrize("aliases", ['["h100"]', "['h100']"])
    def test_a_users_alias_wins_over_a_shipped_one(self, folder: Path, aliases: str) -> None:
        write(folder, MINE.replace('["my-gpu"]', aliases))
        assert accelerator("h100", [str(folder)]).id == "mine"

    def test_a_users_file_wins_over_a_shipped_alias(self, folder: Path) -> None:
        write(folder, MINE, "h100.toml")
        assert accelerator("h100", [str(folder)]).id == "h100"

    def test_an_alias_claimed_twice_is_refused(self, folder: Path) -> None:
        write(folder, MINE)
        write(folder, MINE, "other.toml")
        assert refusal("my-gpu", folder).endswith("'my-gpu' is an alias in mine and in other")

    def test_the_option_comes_before_the_environment(
        self, folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        second, third = tmp_path_factory.mktemp("second"), tmp_path_factory.mktemp("third")
        for place in (second, third):
            (place / "gpus").mkdir()
            write(place, MINE.replace('"Mine"', f'"{place.name}"'))
        monkeypatch.setenv("MEMCALC_PRESETS", os.pathsep.join(["", str(second), str(third)]))
        assert accelerator("mine").name == second.name
        assert accelerator("mine", [str(third)]).name == third.name
        assert preset_folders("gpus", [str(folder)])[:3] == [str(place / "gpus") for place in (folder, second, third)]

    def test_a_folder_may_hold_one_kind_only(self, folder: Path) -> None:
        write(folder, MINE)
        assert preset_folders("models", [str(folder)]) == preset_folders("models")

    @pytest.mark.parametrize("content", ["missing", "empty", "file"])
    def test_a_folder_without_presets_is_refused(self, content: str, tmp_path: Path) -> None:
        place = tmp_path / content
        if content == "empty":
            place.mkdir()
        elif content == "file":
            place.write_text("")
        assert refusal("h100", place).endswith("is no folder of presets: it must hold gpus/ or models/ or runs/")

    def test_hidden_files_and_folders_are_no_presets(self, folder: Path) -> None:
        write(folder, "broken", ".#mine.toml")
        (folder / "gpus" / "folder.toml").mkdir()
        assert set(preset_names("gpus", [str(folder)])) == set(preset_names("gpus"))

    def test_a_file_name_that_could_never_be_asked_for_is_refused(self, folder: Path) -> None:
        write(folder, MINE, "My GPU.toml")
        with pytest.raises(InputError, match="file name is lower-case"):
            preset_names("gpus", [str(folder)])

    def test_a_broken_file_does_not_hide_another_names_error(self, folder: Path) -> None:
        write(folder, "broken")
        assert "did you mean h100" in refusal("h10O", folder)


def changed(old: str, new: str) -> str:
    assert old in MINE
    return MINE.replace(old, new)


BAD_FILES = [  # content, what the line says after the file's name
    (MINE[:40], "not TOML: "),
    ("name = 'x'\nvendor = \n", "not TOML: Invalid value (at line 2, column 10)"),
    (MINE.encode("utf-16"), "not UTF-8"),
    (MINE.encode() + b"notes = '\xff'", "not UTF-8"),
    (b"\0" * 100, "not TOML: "),
    (MINE + "#" * 2**20, "larger than 1 MiB"),
    ("x = " + "[" * 100_000, "nested too deeply"),
    ("x" + ".x" * 100_000 + " = 1", "line 1 has more than 100 dots; break it up"),
    (changed("9000", "9" * 10_000), "not TOML: a number of too many digits"),
    (changed("9000", "0x" + "f" * 10_000), "driver_mib: is too large; it must be above 0 and at most 1e+09"),
    ("", "name: missing"),
    (changed('name = "Mine"\n', ""), "name: missing"),
    (changed("vendor_bytes = 10_000_000_000\n", ""), "vendor_bytes: missing"),
    (changed("sources", "source"), "sources: missing"),
    (changed("tdp", "tpd"), "tpd: unknown key; did you mean tdp?"),
    (changed("tdp", '"a\\nb"'), "'a\\nb': unknown key"),
    ('id = "h100"\n' + MINE, "id: unknown key; the file's name is the id"),
    (changed('"Mine"', "3"), "name: input should be a valid string"),
    (changed('"Mine"', '""'), "name: is empty"),
    (changed('"Mine"', '"a\\u001b[31m"'), "name: must be one line of printable text"),
    (changed('"Mine"', '"' + "x" * 2000 + '"'), "name: must be one line of printable text, at most 1000 characters"),
    (changed("tdp = 100", 'tdp = "100"'), "tdp: input should be a valid number"),
    (changed("tdp = 100", "tdp = true"), "tdp: input should be a valid number"),
    (changed("tdp = 100", "tdp = 2024-01-01"), "tdp: input should be a valid number"),
    (changed("tdp = 100", "tdp = -1"), "tdp: is -1; it must be above 0 and at most 1e+06"),
    (changed("9000", "9000.5"), "driver_mib: input should be a valid integer"),
    (changed("9000", "0"), "driver_mib: is 0; it must be above 0"),
    (changed("10_000_000_000", "-10"), "vendor_bytes: is -10; it must be above 0"),
    (changed("1e12", "nan"), "bandwidth: input should be a finite number, not nan"),
    (changed("1e12", "inf"), "bandwidth: input should be a finite number, not inf"),
    (changed("1e12", "-inf"), "bandwidth: input should be a finite number, not -inf"),
    (changed("1e12", "1e400"), "bandwidth: input should be a finite number, not inf"),
    (changed("1e14", "nan"), "peak.bf16: input should be a finite number, not nan"),
    (changed("1e14", "-1e14"), "peak.bf16: is -1e+14; it must be above 0"),
    (changed("1e14", '"1e14"'), "peak.bf16: input should be a valid number"),
    (changed("bf16", "bf61"), "peak.bf61: is no number format; did you mean bf16"),
    (changed("[peak]\nbf16 = 1e14", "peak = 3"), "peak: input should be a valid"),
    (changed('["my-gpu"]', '"my-gpu"'), "aliases: must be a list"),
    (changed('["my-gpu"]', "[1]"), "aliases: input should be a valid string"),
    (changed('["my-gpu"]', '["My GPU"]'), "aliases: 'My GPU' must be lower-case"),
    (changed('["measured here"]', "[]"), "sources: is empty: say where the numbers come from"),
]


@pytest.mark.parametrize(("content", "reason"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_a_bad_file_is_refused_in_one_line_that_names_it(content: str | bytes, reason: str, folder: Path) -> None:
    path = write(folder, content)
    line = refusal("mine", folder)
    assert line.startswith(f"{path}: {reason}"), line


def test_a_file_that_may_not_be_read_is_refused(folder: Path) -> None:
    path = write(folder, MINE)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read anything")
    assert refusal("mine", folder).startswith(f"{path}: cannot be read")


def test_what_is_no_regular_file_is_never_opened(folder: Path) -> None:
    os.mkfifo(folder / "gpus" / "mine.toml")  # opening it would wait for ever
    assert "unknown GPU 'mine'" in refusal("mine", folder)


def test_a_shipped_file_that_was_edited_badly_is_explained_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "shipped_folder", lambda kind: str(folder / kind))
    for content in (changed("tdp = 100", "tdp = 'x'"), changed('"Mine"', "3"), changed("tdp", "tpd")):
        path = write(folder, content)
        assert refusal("mine").startswith(f"{path}: ")
