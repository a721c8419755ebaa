package manifests

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubernetes/pkg/apis/networking"
)

// peer is a pod that knocks.
type peer struct {
	name, namespace string
}

// reaches tells whether the NetworkPolicies together let a pod to a port; a pod that none of them selects is open to all.
func reaches(policies []*networking.NetworkPolicy, from peer, to string, port int32) bool {
	selected := false
	for _, policy := range policies {
		if !matches(policy.Spec.PodSelector, labels.Set{nameLabel: to}) {
			continue
		}
		selected = true
		for _, rule := range policy.Spec.Ingress {
			if allowsPort(rule, port) && allowsPeer(rule, from) {
				return true
			}
		}
	}
	return !selected
}

func allowsPort(rule networking.NetworkPolicyIngressRule, port int32) bool {
	for _, allowed := range rule.Ports {
		if allowed.Port.IntVal == port {
			return true
		}
	}
	return len(rule.Ports) == 0
}

func allowsPeer(rule networking.NetworkPolicyIngressRule, from peer) bool {
	for _, allowed := range rule.From {
		namespace := from.namespace == "argocd"
		if allowed.NamespaceSelector != nil {
			namespace = matches(*allowed.NamespaceSelector, labels.Set{namespaceLabel: from.namespace})
		}
		if namespace && (allowed.PodSelector == nil || matches(*allowed.PodSelector, labels.Set{nameLabel: from.name})) {
			return true
		}
	}
	return len(rule.From) == 0
}

func matches(selector metav1.LabelSelector, set labels.Set) bool {
	compiled, err := metav1.LabelSelectorAsSelector(&selector)
	return err == nil && compiled.Matches(set)
}

const (
	nameLabel      = "app.kubernetes.io/name"
	namespaceLabel = "kubernetes.io/metadata.name"
)

func TestOnlyArgoCdReachesRedisAndRepoServer(t *testing.T) {
	var together, ours []*networking.NetworkPolicy
	for id := range documents(t, regentFile) {
		if strings.HasPrefix(id, "NetworkPolicy/") {
			policy := decoded[*networking.NetworkPolicy](t, regentFile, id)
			together = append(together, policy)
			if strings.HasPrefix(policy.Name, "regent-") {
				ours = append(ours, policy)
			}
		}
	}
	const (
		redis, repoServer   = "argocd-redis", "argocd-repo-server"
		server, controller  = "argocd-server", "argocd-application-controller"
		sets, notifications = "argocd-applicationset-controller", "argocd-notifications-controller"
	)
	prometheus, stranger, imposter := peer{"prometheus", "monitoring"}, peer{"app", "app"}, peer{server, "app"}
	for name, policies := range map[string][]*networking.NetworkPolicy{"with the stock ones": together, "alone": ours} {
		for _, row := range []struct {
			from peer
			to   string
			port int32
			want bool
		}{
			{peer{server, "argocd"}, redis, 6379, true},
			{peer{controller, "argocd"}, redis, 6379, true},
			{peer{repoServer, "argocd"}, redis, 6379, true},
			{peer{notifications, "argocd"}, redis, 6379, false},
			{stranger, redis, 6379, false},
			{imposter, redis, 6379, false},
			{prometheus, redis, 6379, false},
			{peer{server, "argocd"}, repoServer, 8081, true},
			{peer{controller, "argocd"}, repoServer, 8081, true},
			{peer{sets, "argocd"}, repoServer, 8081, true},
			{peer{notifications, "argocd"}, repoServer, 8081, true},
			{peer{redis, "argocd"}, repoServer, 8081, false},
			{stranger, repoServer, 8081, false},
			{imposter, repoServer, 8081, false},
			{prometheus, repoServer, 8081, false},
			{prometheus, repoServer, 8084, true},
			{prometheus, repoServer, 8087, true},
			{stranger, repoServer, 8087, false},
		} {
			if got := reaches(policies, row.from, row.to, row.port); got != row.want {
				t.Errorf("%s: %v to %s:%d: %v", name, row.from, row.to, row.port, got)
			}
		}
	}
}
