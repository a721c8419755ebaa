"""Where `regent init` is tried: an authority's root in Git, a cluster, and somebody who types."""

import said
from stage import KINDS


class Place:
    def __init__(self, stage, cluster, prod, user="admin"):
        """`user` is one of the cluster's USERS, or a token."""
        self.stage, self.cluster, self.prod, self.user = stage, cluster, prod, user

    def words(self, *more, user=None):
        if not {"--no-vault-yet", "--vault-token-file", "--complete", "--move"} & set(more):
            more = ("--no-vault-yet", *more)
        return ("init", self.stage.repo.folder / self.prod.root, "--kubeconfig", self.cluster.kubeconfig(user or self.user),
                "--yes", *more)

    def done(self, *more, **kwargs):
        return said.done(self.stage, *self.words(*more, **kwargs)).out

    def refused(self, code, exit, expected, *more, **kwargs):
        """It is refused, and nothing was written."""
        before = objects(self.cluster)
        got = said.refused(self.stage, code, exit, expected, *self.words(*more, **kwargs))
        assert objects(self.cluster) == before, "something was written"
        return got


def objects(cluster):
    """Every object of every kind that regent could write, with its resourceVersion; but not what Kubernetes itself renews."""
    found = {}
    for kind in KINDS:
        listed = cluster.get(kind)
        if listed.status == 200:
            for each in listed.body["items"]:
                metadata = each["metadata"]
                if (kind, metadata.get("namespace")) != ("Lease", "kube-system"):
                    found[kind, metadata.get("namespace"), metadata["name"]] = metadata["resourceVersion"]
    return found
