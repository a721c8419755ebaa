"""Vault's real clients at regent's endpoint, `sops` and `bao`: the tests of plugin/regent/src/flux/endpoint/tests/real.rs."""

import stories


def story(_):
    stories.real_tests("flux::endpoint::tests::real")
