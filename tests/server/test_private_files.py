"""The data folder is its owner's alone, also where an older version made it."""

import os
import stat
from pathlib import Path

from agentrft.server.private_files import keep_private
from tests.server.live import live


def open_to_others(folder: Path) -> list[str]:
    paths = [folder, *folder.rglob("*")]
    return [str(path) for path in paths if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077]


def test_all_that_a_server_makes_or_finds_is_private(tmp_path: Path, tiny_model: Path) -> None:
    data_dir = tmp_path / "data"
    (data_dir / "files").mkdir(parents=True, mode=0o755)
    (data_dir / "files" / "file-old").write_text("{}")
    os.chmod(data_dir / "files" / "file-old", 0o644)
    with live(data_dir, tiny_model) as server:
        made = server.client().files.create(file=("rows.jsonl", b'{"messages": []}\n'), purpose="user_data")
        assert (data_dir / "files" / made.id).is_file()
        # The log is the test's own.
        assert [path for path in open_to_others(data_dir) if not path.endswith("data/log")] == []


def test_links_are_left_alone_and_rights_of_the_owner_stay(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("")
    elsewhere.chmod(0o644)
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "link").symlink_to(elsewhere)
    (data_dir / "script").write_text("")
    (data_dir / "script").chmod(0o755)
    keep_private(data_dir)
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o644
    assert stat.S_IMODE((data_dir / "script").stat().st_mode) == 0o700
    assert open_to_others(data_dir) == []


def test_a_data_folder_that_is_a_link_is_private_where_it_leads(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o755)
    (tmp_path / "data").symlink_to(target)
    keep_private(tmp_path / "data")
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
