"""Licences by their names: what permits training, what does not, and what nobody can tell."""

import pytest

from mmkg.images.licences import permits_training


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Public domain",
            "public-domain",
            "PD-USGov",
            "CC0",
            "CC0 1.0",
            "cc-zero",
            "CC BY 4.0",
            "cc-by-sa-3.0-migrated",
        ),
        *("CC BY-SA 2.5", "CC-BY-SA 3.0 de", "Creative Commons Attribution-Share Alike 4.0", "GFDL 1.2 or later"),
        *("https://creativecommons.org/licenses/by-sa/4.0/", "https://creativecommons.org/publicdomain/zero/1.0/"),
        *("MIT", "Apache License 2.0", "BSD-3-Clause", "GPLv3", "Copyrighted free use", "No restrictions", "OGL v1.0"),
        "GFDL or CC BY-NC 2.0",
    ],
)
def test_free_licences_permit_training(name: str) -> None:
    assert permits_training(name) is True


@pytest.mark.parametrize(
    "name",
    [
        *("CC BY-NC 4.0", "CC BY-NC-SA 2.0", "cc-by-nd-2.0", "https://creativecommons.org/licenses/by-nc/4.0/"),
        *("Fair use", "Non-free logo", "All rights reserved", "research use only", "Editorial use", "CC BY 4.0, no AI"),
        "Creative Commons Attribution-NonCommercial 4.0",
    ],
)
def test_what_forbids_use_or_claims_fair_use_does_not(name: str) -> None:
    assert permits_training(name) is False


@pytest.mark.parametrize("name", [None, "", "see file page", "CC", "copyright 2012", "cc-sampling"])
def test_what_says_nothing_is_not_known(name: str | None) -> None:
    assert permits_training(name) is None
