"""The compiled price book is as good as the parsed one, and believed only when it must be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenbudget.domain.price_lists import PriceList
from tokenbudget.formats.compiled_prices import CACHE_FILE, load_compiled_prices
from tokenbudget.formats.price_book import load_price_book
from tokenbudget.formats.whole_files import replace_file
from tokenbudget.settings import packaged_path

BOOK = 'schema = 1\nprovider = "acme"\n[model.m]\nprice = [{ input = 3 }]\n'


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Give a directory with a small price book."""
    directory = tmp_path / "pricing"
    directory.mkdir()
    (directory / "acme.toml").write_text(BOOK, encoding="utf-8")
    return directory


def load(book: Path, cache: Path) -> PriceList:
    """Give the price list of a book through a cache."""
    return load_compiled_prices(book, cache, currency="USD")


def test_the_book_that_ships_comes_out_of_the_cache_as_it_went_in(tmp_path: Path) -> None:
    parsed = load_price_book(packaged_path("pricing"))
    load(packaged_path("pricing"), tmp_path)

    cached = load_compiled_prices(packaged_path("pricing"), tmp_path, currency="EUR")

    assert cached.providers == parsed.providers
    assert (cached.version, cached.currency) == (parsed.version, "EUR")
    price, same = (each.providers[0].models[0].prices[0] for each in (cached, parsed))
    assert (price.price_ref, price.unit_rates) == (same.price_ref, same.unit_rates)


def test_what_is_in_the_cache_is_not_parsed_again(book: Path, tmp_path: Path) -> None:
    load(book, tmp_path)
    written = (tmp_path / CACHE_FILE).stat().st_mtime_ns

    load(book, tmp_path)

    assert (tmp_path / CACHE_FILE).stat().st_mtime_ns == written


def test_a_changed_book_is_parsed_again(book: Path, tmp_path: Path) -> None:
    load(book, tmp_path)
    (book / "acme.toml").write_text(BOOK.replace("3", "4"), encoding="utf-8")

    changed, again = load(book, tmp_path), load(book, tmp_path)

    for price_list in (changed, again):
        price = price_list.providers[0].models[0].prices[0]
        assert price.rates == {"input_tokens": 4_000_000}


@pytest.mark.parametrize("keep", [0, 10, 40, 70, -1])
def test_a_spoilt_cache_is_not_believed(book: Path, tmp_path: Path, keep: int) -> None:
    expected = load(book, tmp_path)
    content = (tmp_path / CACHE_FILE).read_bytes()
    (tmp_path / CACHE_FILE).write_bytes(content[:keep])

    assert load(book, tmp_path).providers == expected.providers
    assert (tmp_path / CACHE_FILE).read_bytes() == content


def test_a_directory_that_is_not_there_is_no_error_and_not_made(book: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"

    assert load(book, missing).providers[0].provider == "acme"
    assert not missing.exists()


def test_a_file_is_replaced_as_a_whole_and_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    file.chmod(0o640)

    replace_file(file, b"new")
    replace_file(tmp_path / "other", b"first")

    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "directory" / "inside").mkdir(parents=True)

    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "directory", b"content")

    assert [path.name for path in tmp_path.iterdir()] == ["directory"]
